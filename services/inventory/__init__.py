"""Knows what lies where, and what of it is promised to whom.

Owns locations, levels of stock, movements, reservations and transfers. Does not know what a SKU is, what it
costs, or who buys it: an order's id is just an id to it.
"""
