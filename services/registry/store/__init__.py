"""Queries of registry."""
