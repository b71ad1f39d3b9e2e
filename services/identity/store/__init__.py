"""Queries of identity, by noun."""
