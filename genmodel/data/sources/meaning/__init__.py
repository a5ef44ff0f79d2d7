"""What the files of a source mean: classes, splits, labels and attributes; what is ignored, by which rule."""
