"""One training step: updates, their optimisers, averages, random numbers, other processes."""
