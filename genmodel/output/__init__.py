"""What is said to people: one line at a time, without secrets and control characters, with progress."""
