"""Knows what was ordered, at what price, and what has become of it.

Owns orders, their shipments, returns and refunds, and the processes that see them through; and, apart from
these, whom an order is for. Does not know what a thing is or costs or how many there are, nor how money
moves: it asks catalog, pricing, inventory and payment.
"""
