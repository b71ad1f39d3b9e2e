"""Knows what people mean to buy.

Owns carts: their lines, coupons, owners and ends. Does not know what anything costs or how much there is of
it: pricing and inventory say so whenever a cart is looked at. Does not know what becomes of an order.
"""
