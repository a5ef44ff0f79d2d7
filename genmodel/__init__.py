"""genmodel: the science of a retraining line for image generators.

Nothing here knows Prefect, MLflow or DVC, and nothing happens on import.
"""

__version__ = "0.1.0"
