"""Sales imported as jobs, while one of their workers is killed: `scripts/weft demo import`."""
