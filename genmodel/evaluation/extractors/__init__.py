"""What turns images into the features that figures are worked out from."""
