"""Data set formats, each with its labels: Parquet, Arrow, WebDataset, arrays, CIFAR, LMDB, ImageNet."""
