"""Faults and load on the running development mesh, and what its users saw of it: `scripts/weft chaos`."""
