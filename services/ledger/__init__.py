"""Knows what was booked: accounts, transfers between them, and the chain that proves both.

It owns balances, and what they may not do. It does not know why money moved: orders, payments and invoices
say so by their events, and posting rules turn each into transfers, once.
"""
