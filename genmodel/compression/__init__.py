"""Images as short as a model's likelihood says, and back to the last bit."""
