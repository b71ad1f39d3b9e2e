"""Queries of pricing."""
