"""What the server of the champion follows."""
