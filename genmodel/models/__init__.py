"""The families of models: families.py names them, configs.py their settings."""
