"""The parts of the family improved_gan."""
