"""What a limit is, and what it lets through: no I/O."""
