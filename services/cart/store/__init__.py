"""Queries of carts."""
