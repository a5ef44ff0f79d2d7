"""Output for people: one line at a time, without secrets or control characters, with progress."""
