"""What `make bench` measures, always beside the plain way in the same run."""
