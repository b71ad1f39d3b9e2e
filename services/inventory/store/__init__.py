"""Queries, by the table that they are about."""
