"""Retention: what old runs have left is removed, and what anyone may still need is kept."""
