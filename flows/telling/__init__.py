"""What the line says: at its end, of what would run, in messages and on its page."""
