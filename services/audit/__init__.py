"""Knows what happened in every service, in one order, and can prove that nobody changed it since.

Owns the chain of entries and the signed anchors over it. Does not judge what happened, and holds no
personal data: events carry ids.
"""
