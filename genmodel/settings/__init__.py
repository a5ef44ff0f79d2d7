"""Settings: what there is to set, and how params.yaml and --set are read into it. Knows no family but by name."""
