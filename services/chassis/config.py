"""Settings: the environment, read once into frozen, typed, documented dataclasses.

Every field has a working default for a laptop, so `python -m services` runs with none set.
`python -m services.chassis.config` prints them all.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}
MESH_KEY_BYTES_MIN = 32  # RFC 7518 §3.2: an HS256 key has at least the hash's size.
DEVELOPMENT_MESH_KEY = "development-only-mesh-key-never-in-production"


class BadSetting(Exception):
    """A setting that cannot be used; names the variable and the rule, never the value."""


def setting(doc: str, default: Any) -> Any:
    """A field of a settings dataclass, with its sentence."""
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the chassis needs to know; the prefix is WEFT_."""

    database_url: str = setting(
        "Database of a service; `{name}` stands for the service's name.",
        "postgresql://{name}@127.0.0.1:5432/{name}",
    )
    nats_url: str = setting("NATS servers, comma separated.", "nats://127.0.0.1:4222")
    nats_replicas: int = setting("Servers of a NATS cluster that keep each stream: 1, 3 or 5.", 1)
    address: str = setting("Where this process answers gRPC (host:port).", "127.0.0.1:50051")
    mesh_address: str = setting(
        "Where every other service is reached: Envoy's mesh listener (host:port).", "127.0.0.1:8081"
    )
    mesh_key: str = setting("Signs calls between services and page tokens.", DEVELOPMENT_MESH_KEY)
    metrics_address: str = setting(
        "Where Prometheus scrapes, and /live and /ready answer (host:port; empty: nowhere).", "127.0.0.1:0"
    )
    engine: str = setting(
        "The gRPC engine that hosts the servicers and makes the calls: wire, or aio, the reference.", "wire"
    )
    issuer: str = setting("The `iss` of access tokens.", "https://127.0.0.1:8443")
    audience: str = setting("The `aud` of access tokens.", "weft")
    edge_url: str = setting("Where people reach the edge; links in mails begin so.", "https://127.0.0.1:8443")
    development: bool = setting("Development conveniences: the mailbox, default keys.", False)
    clock_file: str = setting(
        "A file that moves this process's clock while it is there (development only; empty: none).", ""
    )
    log_level: str = setting("DEBUG, INFO, WARNING or ERROR.", "INFO")
    otlp_endpoint: str = setting("Where spans go (OTLP/gRPC host:port; empty: nowhere).", "")
    trace_ratio: float = setting("Share of new traces that are sampled, 0 to 1.", 0.01)
    degrade: bool = setting(
        "Follow the modes of capabilities that health decides: shed, switch off, serve stale, queue.", False
    )
    drain_s: float = setting("Seconds that calls in flight are given at a stop.", 10.0)
    pool_max: int = setting("PostgreSQL connections of one service in one process.", 8)

    def __post_init__(self) -> None:
        if not 0 <= self.trace_ratio <= 1:
            raise BadSetting("WEFT_TRACE_RATIO must lie between 0 and 1")
        if self.nats_replicas not in (1, 3, 5):
            raise BadSetting("WEFT_NATS_REPLICAS must be 1, 3 or 5")
        if len(self.mesh_key.encode()) < MESH_KEY_BYTES_MIN:
            raise BadSetting(f"WEFT_MESH_KEY must have at least {MESH_KEY_BYTES_MIN} bytes")
        if self.clock_file and not self.development:
            raise BadSetting("WEFT_CLOCK_FILE is for development only")
        if not self.development and self.mesh_key == DEVELOPMENT_MESH_KEY:
            raise BadSetting("WEFT_MESH_KEY must be set (or WEFT_DEVELOPMENT=1 on a laptop)")

    def database(self, service: str) -> str:
        """The URL of `service`'s database; WEFT_DATABASE_URL_<SERVICE> wins over the template."""
        own = os.environ.get(f"WEFT_DATABASE_URL_{service.upper()}")
        return own or self.database_url.format(name=service)


def load(cls: type[T], environ: Mapping[str, str] | None = None, prefix: str = "WEFT_") -> T:
    """An instance of the dataclass `cls` from `environ`. Raises BadSetting.

    `<NAME>_FILE` names a file that holds the value (Docker and Kubernetes secrets) for every
    field that does not itself end in `_file`.
    """
    env = os.environ if environ is None else environ
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for entry in dataclasses.fields(cls):  # type: ignore[arg-type]
        variable = prefix + entry.name.upper()
        text = env.get(variable)
        if text is None and f"{variable}_FILE" in env:
            text = Path(env[f"{variable}_FILE"]).read_text().strip()
        if text is not None:
            values[entry.name] = _parse(variable, hints[entry.name], text)
    return cls(**values)


def _parse(variable: str, kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() in TRUE | FALSE:
            return text.lower() in TRUE
        raise BadSetting(f"{variable} must be 1 or 0")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise BadSetting(f"{variable} must be a number") from None
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def table(cls: type[Any], prefix: str) -> str:
    """The settings of `cls` as lines of `VARIABLE  default  sentence`."""
    rows = [
        f"{prefix}{entry.name.upper()}\n    {entry.metadata.get('doc', '')} Default: {entry.default!r}"
        for entry in dataclasses.fields(cls)
    ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(Settings, "WEFT_"))
