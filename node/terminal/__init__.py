"""Terminal sessions: the recorder that owns the pty, and the player."""
