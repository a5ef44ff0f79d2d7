"""Forms that data sets come in, each with its labels: Parquet, Arrow, WebDataset, arrays, CIFAR, LMDB, ImageNet."""
