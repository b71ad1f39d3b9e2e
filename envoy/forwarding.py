"""The way from a route to its service: time, retries, token, limits, what the answer's headers say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from . import limits
from .global_limits import Asking
from .methods import REQUEST_BYTES_MAX, Method
from .wire import HTTP_FILTERS, Json, extension, header, off, on, seconds, typed

JWT = "envoy.filters.http.jwt_authn"
BUFFER = "envoy.filters.http.buffer"
RETRIES = 2  # Further tries of an idempotent call; the cluster's budget bounds them altogether.
RETRY_ON = "connect-failure,refused-stream,reset-before-request,unavailable"
BACKOFF = {
    "base_interval": "0.025s",
    "max_interval": "0.25s",
}  # A restarted process is back in well under 1 s.
STREAM_IDLE = timedelta(minutes=5)  # Streams send a heartbeat far more often; silence so long is a dead peer.


@dataclass(frozen=True)
class Door:
    """What a listener asks of its routes."""

    public: bool = True  # The edge: tokens, limits, no internal methods. Else the mesh's own side.
    rest: bool = True
    retries: bool = True  # The mesh's own channel retries by itself: two layers would multiply.
    caching: bool = False  # Cacheable reads go through the cache to the inner listener.
    stamping: bool = False  # The inner listener: answers of cacheable reads are stamped.
    asking: Asking | None = None  # Who is asked for limits that hold over all edges; None: nobody.


def route(method: Method, template: str, door: Door) -> Json:
    """The way to the service; the match is the caller's to add."""
    # Counts from the first byte, so that a slow sender is bound too. Zero is no bound; then the deadline that
    # a gRPC caller sends counts alone.
    bound = seconds(method.timeout)
    action: Json = {
        "cluster": method.service,
        "timeout": bound,
        "max_stream_duration": {"max_stream_duration": bound, "grpc_timeout_header_max": bound},
        "idle_timeout": seconds(STREAM_IDLE),
    }
    notes = {"template": template, "retry_after": limits.retry_after(method), "max_age": _age(method)}
    forward: Json = {
        "name": method.full_name,
        "route": action,
        "metadata": {"filter_metadata": {"weft": notes}},
        "response_headers_to_add": [header(name, value) for name, value in method.headers],
    }
    if door.retries and method.idempotent:
        action["retry_policy"] = _retry_policy()
    if door.public:
        action["rate_limits"] = limits.actions(method)
        forward["request_headers_to_remove"] = ["x-api-key"]
        forward["typed_per_filter_config"] = _per_filter(method)
        if door.asking and (asked := door.asking.per_filter(method)):
            action["rate_limits"] += door.asking.actions(method, template)
            forward["typed_per_filter_config"] |= asked
    return forward


def _retry_policy() -> Json:
    previous = extension(
        "envoy.retry_host_predicates.previous_hosts",
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    )
    return {
        "retry_on": RETRY_ON,
        "num_retries": RETRIES,
        "retry_back_off": BACKOFF,
        "retry_host_predicate": [previous],
        "host_selection_retry_max_attempts": 3,  # Envoy's own advice; bounds the search for another host.
    }


def _per_filter(method: Method) -> Json:
    requirement = "allowed" if method.access == "public" else "required"
    config = {
        limits.NAME: on(),
        BUFFER: on(),
        JWT: typed(HTTP_FILTERS + "jwt_authn.v3.PerRouteConfig", requirement_name=requirement),
    }
    if method.client_streaming:
        config[BUFFER] = off()
    elif method.request_bytes_max != REQUEST_BYTES_MAX:
        config[BUFFER] = typed(
            HTTP_FILTERS + "buffer.v3.BufferPerRoute",
            buffer={"max_request_bytes": method.request_bytes_max},
        )
    return config


def _age(method: Method) -> str:
    return f"{method.cache.total_seconds():.0f}"
