"""Rows, rules and refusals of pricing; no I/O."""
