"""What the launcher says of the edge: ports, endpoints, issuer, folders (see the package's docstring)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PORTS = {"https": 8443, "http": 8080, "mesh": 8081, "admin": 9901, "stats": 9902}
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
CLAIM = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
ADS = "ads"
REGISTRY = "registry"  # The service that answers ADS.
GLOBAL_LIMITS = ("closed", "headers", "routes")
REQUIRED_PORTS = ("mesh", "admin", "stats")


class BadSettings(ValueError):
    """The settings file cannot be used; the message is one line for the person who wrote it."""


@dataclass(frozen=True)
class Settings:
    """One edge's settings, with working defaults."""

    services: dict[str, list[str]] = field(default_factory=dict)
    host: str = LOOPBACK
    ports: dict[str, int | None] = field(default_factory=dict)
    issuer: str = ""
    audience: str = "weft"
    certificates: Path = Path(".weft/certificates")
    development: bool = True
    origins: list[str] = field(default_factory=list)
    descriptor: Path = Path("gen/envoy/weft.binpb")
    openapi: Path = Path("gen/openapi/weft.json")
    pages: Path = Path("web/pages")
    bundle: Path = Path("gen/web/weft.js")
    access_log: str = ""
    otlp: str | None = None
    trace_percent: float = 1.0
    trusted_hops: int = 0
    rate_factor: int = 1
    global_limits: dict[str, list[str]] | None = None
    health: dict[str, str] = field(default_factory=dict)
    segments: list[str] = field(default_factory=list)
    discovery: str = ""

    def port(self, name: str) -> int | None:
        """The listener's port, None if the listener is left out."""
        if name == "http" and not self.development:
            return None
        return self.ports.get(name, PORTS[name])

    @property
    def loop(self) -> str:
        """Where Envoy reaches its own listeners."""
        return LOOPBACK if self.host == EVERYWHERE else self.host

    @property
    def token_issuer(self) -> str:
        """`iss` that access tokens must carry."""
        return self.issuer or f"https://127.0.0.1:{self.port('https') or self.port('http')}"


def load(path: Path | None) -> Settings:
    """The settings of a file, or the defaults. Raises BadSettings."""
    if path is None:
        return Settings()
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadSettings(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise BadSettings(f"{path}: one JSON object is expected")
    return from_values(values)


def from_values(values: dict[str, Any]) -> Settings:
    """The settings of a JSON object. Raises BadSettings."""
    known = {each.name for each in fields(Settings)}
    if unknown := sorted(values.keys() - known):
        raise BadSettings(f"unknown settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    paths = {"certificates", "descriptor", "openapi", "pages", "bundle"}
    taken: dict[str, Any] = {key: Path(value) if key in paths else value for key, value in values.items()}
    settings = Settings(**taken)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """Raises BadSettings."""
    _known("ports", settings.ports, PORTS)
    _known("global_limits", settings.global_limits or {}, GLOBAL_LIMITS)
    for name in REQUIRED_PORTS:
        if settings.port(name) is None:
            raise BadSettings(f"the {name} listener cannot be left out")
    if wrong := [claim for claim in settings.segments if not CLAIM.fullmatch(claim)]:
        raise BadSettings(f"segments are names of claims, such as plan; not {', '.join(wrong)}")
    _check_discovery(settings)
    for endpoints in settings.services.values():
        for endpoint in endpoints:
            address(endpoint)


def _check_discovery(settings: Settings) -> None:
    """Raises BadSettings."""
    if settings.discovery not in ("", ADS):
        raise BadSettings(f"unknown discovery: {settings.discovery!r}; known: {ADS!r}")
    if settings.discovery and not settings.services.get(REGISTRY):
        raise BadSettings(f"discovery by {ADS} needs endpoints of the service {REGISTRY}")


def _known(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises BadSettings."""
    if strange := sorted(set(given) - set(known)):
        raise BadSettings(f"unknown {name}: {', '.join(strange)}; known: {', '.join(known)}")


def address(endpoint: str) -> tuple[str, int]:
    """Host and port of "host:port". Raises BadSettings."""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise BadSettings(f"{endpoint!r} is not host:port")
    return host, int(port)
