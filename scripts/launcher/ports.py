"""Where everything listens, always on 127.0.0.1; a flag or a variable moves one port, or all at once."""

import errno
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from launcher.problem import Problem

HOST = "127.0.0.1"
SERVICES_MAX = 64  # Room between the first port of the services and that of their metrics.
PORT_MAX = 65_535


def _port(default: int, offset: int, doc: str) -> Any:
    return field(default=default, metadata={"offset": offset, "doc": doc})


@dataclass(frozen=True)
class Ports:
    """One mesh's ports. `offset` is a port's place when all are moved by --port-base."""

    edge: int = _port(8443, 0, "the edge: gRPC, grpc-web and REST over TLS")
    plain: int = _port(8080, 1, "the same without TLS, for development")
    mesh: int = _port(8081, 2, "Envoy's listener for calls between services")
    admin: int = _port(9901, 3, "Envoy's admin")
    stats: int = _port(9902, 4, "Envoy's health and Prometheus metrics")
    postgres: int = _port(15432, 5, "PostgreSQL")
    nats: int = _port(14222, 6, "NATS")
    monitor: int = _port(18222, 7, "NATS's health and statistics")
    smtp: int = _port(1025, 8, "the development mail server")
    cluster: int = _port(17222, 9, "with --cluster: its second PostgreSQL, then its other servers' 10 ports")
    services: int = _port(50051, 20, "the first process of services; the others follow")
    metrics: int = _port(
        9464, 20 + SERVICES_MAX, "the first process's readiness and metrics; the others follow"
    )

    @classmethod
    def chosen(cls, flags: Mapping[str, int | None], environ: Mapping[str, str]) -> "Ports":
        """A flag wins over its variable, that over the base, that over the default. Raises Problem."""
        base = flags.get("base") or _number("WEFT_PORT_BASE", environ)
        values: dict[str, int] = {}
        for each in fields(cls):
            moved: int = base + each.metadata["offset"] if base else getattr(cls, each.name)
            value: int = flags.get(each.name) or _number(variable(each.name), environ) or moved
            if not 0 < value <= PORT_MAX:
                raise Problem(f"{value} is no port ({each.name})", f"choose one from 1 to {PORT_MAX}")
            values[each.name] = value
        return cls(**values)

    def rows(self) -> dict[str, int]:
        return asdict(self)


def variable(name: str) -> str:
    return f"WEFT_{name.upper()}_PORT"


def _number(name: str, environ: Mapping[str, str]) -> int | None:
    text = environ.get(name, "")
    if text and not text.isdigit():
        raise Problem(f"{name}={text} is no port", f"give a number from 1 to {PORT_MAX}")
    return int(text) if text else None


def refusal(port: int) -> str:
    """Why this port cannot be listened on; empty when it can."""
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((HOST, port))
            door.listen(1)
        except OSError as error:
            if error.errno == errno.EACCES:
                return "needs more rights than this account has"
            return f"is taken{_holder(port)}" if error.errno == errno.EADDRINUSE else str(error.strerror)
    return ""


def _holder(port: int) -> str:
    """Who listens there, as far as this account may know."""
    try:
        import psutil

        for link in psutil.net_connections("tcp"):
            if link.status == psutil.CONN_LISTEN and link.laddr[1:] == (port,) and link.pid:
                return f" by {psutil.Process(link.pid).name()} (pid {link.pid})"
    except (ImportError, OSError, RuntimeError, psutil.Error):
        return ""
    return ""


def check(wanted: Mapping[str, int]) -> None:
    """Raises Problem naming the first port of `wanted` that is wanted twice or cannot be had."""
    seen: dict[int, str] = {}
    for name, port in wanted.items():
        if port in seen:
            raise Problem(f"port {port} is wanted for {seen[port]} and for {name}", _way_out(name))
        seen[port] = name
        if why := refusal(port):
            raise Problem(f"port {port} ({name}) {why}", _way_out(name))


def _way_out(name: str) -> str:
    known = name in {each.name for each in fields(Ports)}
    one = f"--{name}-port N or {variable(name)}=N moves it, " if known else ""
    return f"stop what holds it; or {one}--port-base N moves all"
