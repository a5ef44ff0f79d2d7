"""The operations: schedules (Prefect), versions (DVC) and the record of experiments (MLflow) around genmodel."""
