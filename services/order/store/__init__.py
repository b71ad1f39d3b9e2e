"""What order keeps beside its events, and how it is found."""
