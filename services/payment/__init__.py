"""Knows what customers pay by, what they shall pay, and what became of it at the gateways.

Owns methods, intents, captures, refunds, disputes, wallets, and the statements of our own bank account. Does
not know what is paid for, nor what it is booked on: it tells by event, and whoever asked compares.
"""
