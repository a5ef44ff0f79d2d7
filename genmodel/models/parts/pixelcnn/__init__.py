"""The network of PixelCNN++, and the walk over an image's pixels that reuses what it has computed."""
