"""The figures, each a pure function; ../table.py lists them."""
