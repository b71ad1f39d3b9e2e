"""Local rate limits: one bucket for each caller of each method, whichever door it comes by.

The caller is the token's subject (an API key has become a token by then), else the address.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta

from .methods import RATE_LIMIT, Limit, Method
from .wire import HTTP_FILTERS, Json, absent, extension, idle, present, seconds

SUBJECT = "x-weft-subject"  # Set by the token's verification; stripped from what callers send.
CALLERS_MAX = 10_000  # Buckets of one descriptor; the least recently used goes: bounded memory.
EXCHANGES = Limit(
    calls=500, interval=timedelta(seconds=1), burst=1000
)  # A busy partner's server makes fewer.
SHARED_BURST = 1_000_000  # Envoy demands a bucket for calls that match no descriptor; all match one.
NAME = "envoy.filters.http.local_ratelimit"


def filter_(methods: Iterable[Method], factor: int) -> Json:
    """The filter of a listener, with the buckets of all methods, each multiplied."""
    named = [(method.full_name, method.rate_limit) for method in methods if method.rate_limit != RATE_LIMIT]
    buckets = [
        descriptor
        for method, limit in [("", RATE_LIMIT), *named]
        for descriptor in _descriptors("own" if method else "method", method, _times(limit, factor))
    ]
    limit = extension(
        NAME,
        HTTP_FILTERS + "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="edge",
        token_bucket=_bucket(Limit(SHARED_BURST, RATE_LIMIT.interval, SHARED_BURST)),
        filter_enabled=_always(),
        filter_enforced=_always(),
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        always_consume_default_token_bucket=False,
        descriptors=buckets,
        max_dynamic_descriptors=CALLERS_MAX,
    )
    return idle(limit)


def exchanges() -> Json:
    """Bounds how often one address may have API keys exchanged: guesses cost identity a look-up each."""
    given = {"header_value_match": {"descriptor_value": "key", "headers": [present("x-api-key")]}}
    entries = [{"key": "header_match", "value": "key"}, {"key": "remote_address"}]
    return extension(
        "weft.limit.exchanges",
        HTTP_FILTERS + "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="exchanges",
        token_bucket=_bucket(Limit(SHARED_BURST, EXCHANGES.interval, SHARED_BURST)),
        filter_enabled=_always(),
        filter_enforced=_always(),
        always_consume_default_token_bucket=False,
        rate_limits=[{"actions": [given, {"remote_address": {}}]}],
        descriptors=[{"entries": entries, "token_bucket": _bucket(EXCHANGES)}],
        max_dynamic_descriptors=CALLERS_MAX,
    )


def actions(method: Method) -> list[Json]:
    """What a route tells the filter of a call."""
    key = "method" if method.rate_limit == RATE_LIMIT else "own"
    which = {"generic_key": {"descriptor_key": key, "descriptor_value": method.full_name}}
    subject = {"request_headers": {"header_name": SUBJECT, "descriptor_key": "subject"}}
    anonymous = {"header_value_match": {"descriptor_value": "anonymous", "headers": [absent(SUBJECT)]}}
    return [{"actions": [which, subject]}, {"actions": [which, anonymous, {"remote_address": {}}]}]


def retry_after(method: Method) -> str:
    """Whole seconds after which one more call is let through, at most."""
    limit = method.rate_limit
    return str(max(1, math.ceil(limit.interval.total_seconds() / limit.calls)))


def _descriptors(key: str, method: str, limit: Limit) -> list[Json]:
    which = {"key": key, **({"value": method} if method else {})}
    callers = (
        [{"key": "subject"}],
        [{"key": "header_match", "value": "anonymous"}, {"key": "remote_address"}],
    )
    return [{"entries": [which, *caller], "token_bucket": _bucket(limit)} for caller in callers]


def _times(limit: Limit, factor: int) -> Limit:
    return Limit(limit.calls * factor, limit.interval, limit.burst * factor)


def _bucket(limit: Limit) -> Json:
    return {
        "max_tokens": limit.burst,
        "tokens_per_fill": limit.calls,
        "fill_interval": seconds(limit.interval),
    }


def _always() -> Json:
    return {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
