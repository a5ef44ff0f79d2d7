"""From a finished model to images: loading it, requests of a seed and a class, export."""
