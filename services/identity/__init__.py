"""Knows people and how they prove themselves: accounts, credentials, second factors, sessions, roles.

Owns everything personal about an account, and the keys that sign access tokens. Does not know what a
permission permits: each service names its own and checks them.
"""
