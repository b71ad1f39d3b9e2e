"""Rows, rules and refusals, one noun a module."""
