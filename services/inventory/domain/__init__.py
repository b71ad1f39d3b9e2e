"""Rules and rows of stock: levels, reservations, transfers, locations."""
