"""The figures, each a pure function; table.py beside this folder names them."""
