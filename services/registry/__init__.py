"""Knows which instances of which services there are, and how their calls are dealt.

Owns instances with their leases, traffic policies, and what Envoy and gRPC's xDS clients are told of both.
Does not know what the services do, and no call of theirs passes through here.
"""
