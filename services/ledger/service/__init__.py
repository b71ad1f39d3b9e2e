"""The servicers."""
