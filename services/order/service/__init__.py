"""weft.order.v1, service by service."""
