"""The gRPC services: locations, stock, reservations, transfers, availability."""
