"""What has arrived at the sources of data.dvc since they were read, and how it becomes data."""
