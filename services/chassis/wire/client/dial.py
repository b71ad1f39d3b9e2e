"""How a connection to an endpoint is made: TCP, a Unix socket, TLS with ALPN."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from services.chassis.wire.client.connection import ClientConnection
from services.chassis.wire.client.endpoints import place

ALPN = "h2"  # RFC 9113 §3.2.

Make = Callable[[], ClientConnection]
Dial = Callable[[str, Make], Awaitable[ClientConnection]]


def client_context(
    root_certificates: bytes | None = None,
    private_key_file: str | None = None,
    certificate_chain_file: str | None = None,
) -> ssl.SSLContext:
    """TLS 1.2 or later (RFC 9113 §9.2), by these roots in PEM, else the system's; with a certificate of ours
    if its files are given. Key and chain are files, as Python's TLS reads them from nowhere else.
    """
    context = ssl.create_default_context(cadata=root_certificates.decode() if root_certificates else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    if certificate_chain_file is not None:
        context.load_cert_chain(certificate_chain_file, private_key_file)
    return context


def dialer(tls: ssl.SSLContext | None, server_name: str) -> Dial:
    """Raises OSError, ssl.SSLError, or what the connection's first bytes say."""

    async def dial(address: str, make: Make) -> ClientConnection:
        loop, at = asyncio.get_running_loop(), place(address)
        if at.path:
            name = (server_name or "localhost") if tls is not None else None
            transport, connection = await loop.create_unix_connection(
                make, at.path, ssl=tls, server_hostname=name
            )
        else:
            name = (server_name or at.host) if tls is not None else None
            transport, connection = await loop.create_connection(
                make, at.host, at.port, ssl=tls, server_hostname=name
            )
        secured = transport.get_extra_info("ssl_object")
        if secured is not None and secured.selected_alpn_protocol() != ALPN:
            transport.abort()
            raise ConnectionError(f"{address}: the server does not speak {ALPN} (ALPN)")
        return connection

    return dial
