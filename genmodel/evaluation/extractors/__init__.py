"""Turns images into the features that figures are computed from."""
