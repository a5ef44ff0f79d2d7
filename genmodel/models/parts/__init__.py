"""What families share: layers, losses as pure functions, augmentation."""
