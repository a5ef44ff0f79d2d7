"""Random access to archives: read in place, in any packing, nested, with links followed."""
