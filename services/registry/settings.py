"""Settings of registry; the prefix is WEFT_REGISTRY_."""

import re
from dataclasses import dataclass

from services.chassis.config import BadSetting, setting
from services.registry.domain.rules import RetryBudget
from services.registry.domain.world import PLAIN, Balancer, Policy

PREFIX = "WEFT_REGISTRY_"
LIKE_EDGE = Policy(
    balancer=Balancer.LEAST_REQUEST,
    active_checks=True,
    checked_by_name=True,
    retry_budget=RetryBudget(percent=20, always=3),
)
STATS_MAX = 16  # Each is asked once a second for each rollout on its way.


@dataclass(frozen=True, kw_only=True)
class RegistrySettings:
    """What an operator may decide."""

    listener: str = setting(
        "Where Envoys that are told by ADS open the mesh's listener (host:port; empty: nowhere).",
        "",
    )
    trust_domain: str = setting("Whose certificates these are: `spiffe://<it>/service/…`.", "weft.mesh")
    certificate_s: int = setting("How long a certificate lives, 60 to 86400 seconds.", 3600)
    key: str = setting("Secret that seals the keys of our own authorities; empty: the mesh key.", "")
    authority: str = setting(
        "An outside authority signs: its intermediate with those above it up to the root, PEM. "
        "Empty: a root of our own.",
        "",
    )
    authority_key: str = setting("The intermediate's key, PEM.", "")
    stats: tuple[str, ...] = setting(
        "Admin addresses of the Envoys whose statistics rollouts go by (host:port, comma separated; "
        "empty: none, and rollouts wait).",
        (),
    )
    envoy_metrics: str = setting(
        "Where graphs read what Envoy has counted: its stats listener (host:port; empty: nowhere).",
        "",
    )
    like_edge: bool = setting(
        "All who register are Weft's own: those without a policy get least request, health checks by their "
        "service's name and a budget for retries, as in the generated edge.",
        False,
    )

    @property
    def plain(self) -> Policy:
        """Of services that have none."""
        return LIKE_EDGE if self.like_edge else PLAIN

    def __post_init__(self) -> None:
        for name, place in (("LISTENER", self.listener), ("ENVOY_METRICS", self.envoy_metrics)):
            if place and not _is_place(place):
                raise BadSetting(f"{PREFIX}{name} must be host:port")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,252}", self.trust_domain):
            raise BadSetting(f"{PREFIX}TRUST_DOMAIN must have small letters, digits, dots and dashes alone")
        if not 60 <= self.certificate_s <= 86_400:
            raise BadSetting(f"{PREFIX}CERTIFICATE_S must lie between 60 and 86400")
        if bool(self.authority) != bool(self.authority_key):
            raise BadSetting(f"{PREFIX}AUTHORITY and {PREFIX}AUTHORITY_KEY go together")
        if not all(map(_is_place, self.stats)) or len(self.stats) > STATS_MAX:
            raise BadSetting(f"{PREFIX}STATS must be at most {STATS_MAX} of host:port")


def _is_place(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 1 << 16
