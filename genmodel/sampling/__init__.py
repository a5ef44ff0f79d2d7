"""From a finished model to images: loading, requests for a seed and a class, export."""
