"""Knows what things cost, whom, when, and why.

Owns price lists, promotions with their coupons and uses, segments of customers, and quotes. Mirrors of the
catalog what a price needs: list prices, categories, tax categories. Does not know what a cart or an order
is, nor a rate of tax: billing says those.
"""
