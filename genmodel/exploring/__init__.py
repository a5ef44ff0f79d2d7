"""A page to play with a finished model: what it draws for a seed, a class and codes, and what is nearest to that."""
