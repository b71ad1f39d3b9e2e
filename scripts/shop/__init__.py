"""A thing is sold, from its first price to its return: `scripts/weft demo shop`."""
