"""Rows and rules of identity, by noun. No I/O, no clock, no wire."""
