"""Queries of queue, by noun."""
