"""Where the money moves: one interface, and a module for each gateway.

tests/payment/test_conformance.py says what a gateway must keep to, whichever it is.
"""
