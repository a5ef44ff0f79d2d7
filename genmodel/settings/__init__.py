"""Settings: what can be set, and how params.yaml and --set are read. Knows families only by name."""
