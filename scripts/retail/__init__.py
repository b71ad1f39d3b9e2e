"""A wholesaler's months taken over as a business: `scripts/weft demo retail`."""
