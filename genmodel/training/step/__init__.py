"""What one batch does to a model: updates, their optimisers, averages, random numbers, other processes."""
