"""The families: their contract and abilities, a file for each, and what they share. families.py names them."""
