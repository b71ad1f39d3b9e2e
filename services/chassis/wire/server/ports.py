"""Where a server listens: TCP, Unix sockets, with TLS or without."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

BACKLOG = 1_024  # Connections that wait to be accepted: a front end's workers connect all at once.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # RFC 9113 §9.2.2: with TLS 1.2, none of appendix A.


@dataclass(slots=True)
class Port:
    """A bound socket that does not listen yet."""

    sock: socket.socket
    number: int  # 0 for a Unix socket.
    context: ssl.SSLContext | None
    path: str = ""  # Of a Unix socket.

    async def listen(
        self, protocol: Callable[[], asyncio.Protocol], handshake_s: float
    ) -> asyncio.AbstractServer:
        loop, over_tls = asyncio.get_running_loop(), handshake_s if self.context else None
        if self.path:
            return await loop.create_unix_server(
                protocol, sock=self.sock, ssl=self.context, backlog=BACKLOG, ssl_handshake_timeout=over_tls
            )
        return await loop.create_server(
            protocol, sock=self.sock, ssl=self.context, backlog=BACKLOG, ssl_handshake_timeout=over_tls
        )

    def close(self) -> None:
        """Frees what the event loop leaves: a socket never listened on, and a Unix socket's file."""
        self.sock.close()
        if self.path and not self.path.startswith("\0"):
            with suppress(FileNotFoundError):
                os.unlink(self.path)


def bind(address: str, context: ssl.SSLContext | None) -> Port:
    """`host:port`, `[::1]:port`, `unix:path` or `unix-abstract:name`. Raises OSError or ValueError."""
    scheme, _, rest = address.partition(":")
    if scheme in ("unix", "unix-abstract"):
        path = "\0" + rest if scheme == "unix-abstract" else rest.removeprefix("//")
        return Port(_unix(path), 0, context, path)
    host, _, number = address.rpartition(":")
    if not host or not number.isdigit():
        raise ValueError(f"address {address!r} is not host:port, unix:path or unix-abstract:name")
    sock = _tcp(host.strip("[]"), int(number))
    return Port(sock, sock.getsockname()[1], context)


def _tcp(host: str, number: int) -> socket.socket:
    """Never shared: two servers on one port would take each other's calls in silence."""
    family, _, _, _, where = socket.getaddrinfo(
        host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # As gRPC: IPv4 as well.
    return _bound(sock, where)


def _unix(path: str) -> socket.socket:
    """A file that is left of a server that was killed is replaced; one that is listened on is not."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if not path.startswith("\0") and Path(path).is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path):
                os.unlink(path)
    return _bound(sock, path)


def _bound(sock: socket.socket, where: object) -> socket.socket:
    try:
        sock.bind(where)  # type: ignore[arg-type] # an address of the socket's family
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def tls(certificate: Path, key: Path, client_roots: Path | None = None) -> ssl.SSLContext:
    """RFC 9113 §9.2. With `client_roots`, clients must show a certificate that these have signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificate, key)
    if client_roots is not None:
        context.load_verify_locations(client_roots)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
