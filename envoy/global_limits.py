"""Global rate limits: filters that ask the ratelimit service, for limits that hold over all edges together.

Left out unless the settings have `global_limits`. A call is told to the service by one descriptor, and what
it counts under is the service's to say. Each route asks by one of two filters, since whether a call passes
while nobody answers is a setting of the filter: `open`, or `closed` for the rpcs that the settings name so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from .limits import SUBJECT
from .methods import Method
from .settings import Settings
from .wire import HTTP_FILTERS, Json, extension, idle, on, seconds

SERVICE = "ratelimit"  # Its cluster.
CLIENT = "x-weft-client"  # Set by the token's verification, as the subject is.
PLAN = "x-weft-plan"
STAGE = 1  # Of the routes' actions: 0 is the local limits'.
TIMEOUT = timedelta(milliseconds=20)  # A decision takes well under 1 ms, with a look at the database some.
V6_BITS = 64  # What one site has of IPv6 at the least: its hosts are one caller.
OPEN, CLOSED = "weft.ratelimit.open", "weft.ratelimit.closed"


@dataclass(frozen=True)
class Asking:
    """Which routes ask, and what they tell."""

    closed: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    routes: tuple[str, ...] = ("weft.",)

    @classmethod
    def of(cls, settings: Settings) -> Asking | None:
        given = settings.global_limits
        return None if given is None else cls(**{name: tuple(values) for name, values in given.items()})

    def per_filter(self, method: Method) -> Json:
        """The filter that a method's routes ask by."""
        if not method.full_name.startswith((*self.routes, *self.closed)):
            return {}
        return {CLOSED if method.full_name.startswith(self.closed) else OPEN: on()}

    def actions(self, method: Method, template: str) -> list[Json]:
        """One descriptor of all that limits may go by; what a call does not have is left out of it."""
        told = [_header(SUBJECT, "user"), _header(CLIENT, "api_key"), _header(PLAN, "plan")]
        told += [_header(name, f"header:{name}") for name in self.headers]
        address = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": V6_BITS}}
        where = [_fixed("rpc", method.full_name), _fixed("route", template)]
        return [{"stage": STAGE, "actions": [*where, *told, address]}]


def filters(asking: Asking | None) -> list[Json]:
    """Both filters, idle; none where nothing is asked."""
    return [] if asking is None else [_filter(OPEN, deny=False), _filter(CLOSED, deny=True)]


def claims(asking: Asking | None) -> list[Json]:
    """What of a token becomes a header, beside its subject."""
    if asking is None:
        return []
    return [
        {"header_name": CLIENT, "claim_name": "client_id"},
        {"header_name": PLAN, "claim_name": "plan"},
    ]


def _filter(name: str, *, deny: bool) -> Json:
    return idle(
        extension(
            name,
            HTTP_FILTERS + "ratelimit.v3.RateLimit",
            domain="weft",
            stage=STAGE,
            timeout=seconds(TIMEOUT),
            failure_mode_deny=deny,
            status_on_error={"code": "ServiceUnavailable"},
            rate_limited_as_resource_exhausted=True,
            disable_x_envoy_ratelimited_header=True,
            rate_limit_service={
                "grpc_service": {"envoy_grpc": {"cluster_name": SERVICE}},
                "transport_api_version": "V3",
            },
        )
    )


def _fixed(key: str, value: str) -> Json:
    return {"generic_key": {"descriptor_key": key, "descriptor_value": value}}


def _header(name: str, key: str) -> Json:
    return {"request_headers": {"header_name": name, "descriptor_key": key, "skip_if_absent": True}}
