"""From an image file's bytes to the pixels of each size."""
