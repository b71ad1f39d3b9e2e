"""Settings of a process that registers itself with the registry; the prefix is WEFT_."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

VERSION = r"([A-Za-z0-9][A-Za-z0-9._+-]{0,62})?"
ZONE = r"([a-z0-9][a-z0-9-]{0,62})?"
LABEL = r"[a-z][a-z0-9._/-]{0,62}=.{0,200}"
LABELS_MAX = 24  # The registry takes 32 an instance; some are the process's own.
OWNER_CHARS_MAX = 100  # As the contract has it.
LEASE_S_MIN, LEASE_S_MAX = 1.0, 300.0  # As the contract has it.


@dataclass(frozen=True, kw_only=True)
class RegistrationSettings:
    """What a process says of itself. What the registry would refuse is refused here, at the start."""

    register: bool = setting("Register the services of this process with the registry.", False)
    register_address: str = setting(
        "The IP address that clients reach this process by (empty: that of WEFT_ADDRESS; where that is any, "
        "the one that leads to the mesh).",
        "",
    )
    register_lease_s: float = setting(
        "How long the registry believes in this process unheard, 1 to 300.", 15.0
    )
    version: str = setting("Of this code; traffic policies split by it.", "")
    zone: str = setting("Where this process runs; what is in a zone fails together.", "")
    owner: str = setting("The team that answers for these services, never a person.", "")
    labels: tuple[str, ...] = setting("What instances are searched by: `key=value`, comma separated.", ())

    def __post_init__(self) -> None:
        for name, value, rule in (("VERSION", self.version, VERSION), ("ZONE", self.zone, ZONE)):
            if not re.fullmatch(rule, value):
                raise BadSetting(f"WEFT_{name} must match {rule}")
        if len(self.owner) > OWNER_CHARS_MAX:
            raise BadSetting(f"WEFT_OWNER must have at most {OWNER_CHARS_MAX} characters")
        if not LEASE_S_MIN <= self.register_lease_s <= LEASE_S_MAX:
            raise BadSetting(f"WEFT_REGISTER_LEASE_S must lie between {LEASE_S_MIN:g} and {LEASE_S_MAX:g}")
        if len(self.labels) > LABELS_MAX or not all(re.fullmatch(LABEL, each) for each in self.labels):
            raise BadSetting(f"WEFT_LABELS must be at most {LABELS_MAX} of key=value")
        if self.register_address and not _address(self.register_address):
            raise BadSetting("WEFT_REGISTER_ADDRESS must be an IP address")


def _address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False
