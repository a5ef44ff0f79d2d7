"""The families: their contract (base.py), a file for each, and what they share. families.py names them."""
