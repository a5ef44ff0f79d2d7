"""Files that are whole or not there, checked by their digests: JSON, tensors, a model's folder."""
