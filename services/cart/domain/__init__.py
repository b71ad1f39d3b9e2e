"""Rows, rules and refusals of carts; no I/O."""
