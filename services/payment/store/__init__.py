"""Queries of payment, by noun."""
