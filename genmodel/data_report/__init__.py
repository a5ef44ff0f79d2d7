"""What new images are against the old, told before anything is trained on them: counts, drift, duplicates, limits."""
