"""What can be sold: products, variants, list prices, the tree of categories, the attributes of each kind.

Owns what a sku means. Knows nothing of what a customer pays for it (pricing) and of who holds stock of it
(inventory), but for a copy of what can be had, by which shops filter.
"""
