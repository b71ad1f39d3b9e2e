"""Settings of registry; the prefix is WEFT_REGISTRY_."""

from dataclasses import dataclass

from services.chassis.config import BadSetting, setting

PREFIX = "WEFT_REGISTRY_"


@dataclass(frozen=True, kw_only=True)
class RegistrySettings:
    """What an operator may decide."""

    listener: str = setting(
        "Where Envoys that are told by ADS open the mesh's listener (host:port; empty: nowhere).",
        "",
    )

    def __post_init__(self) -> None:
        host, _, port = self.listener.rpartition(":")
        if self.listener and not (host and port.isdigit() and 0 < int(port) < 1 << 16):
            raise BadSetting(f"{PREFIX}LISTENER must be host:port")
