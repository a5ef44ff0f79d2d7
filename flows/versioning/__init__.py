"""What DVC knows: the graph, what has changed, what a stage was made of. The only place that imports dvc."""
