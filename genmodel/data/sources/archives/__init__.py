"""Bytes with addresses: archives read in place, whatever they are packed by, one in the other, links followed."""
