"""Knows what customers have subscribed to, what they owe for it, and by which invoice.

Owns plans, subscriptions, usage, coupons, credits, invoices, credit notes, taxes and reminders. Does not know
how money moves (payment), how it is booked (ledger), nor how a reminder reaches anybody (notification).
"""
