"""Rows, rules and refusals of payment; no I/O."""
