"""Figures of what the noise means: how an image follows it, and what groups a model has found."""
