"""Knows how often callers may call, and how often they did.

Owns limits, quotas and what is counted under them; decides for the edges whether a call may pass. Does not
know what calls are for, and no call of a service passes through here.
"""
