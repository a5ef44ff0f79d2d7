"""The parts of the family flow."""
