"""`scripts/weft jobs`: jobs from the terminal, by the edge, as the administrator."""
