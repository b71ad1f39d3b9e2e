"""Who is at the other end: its address, and what its certificate says of it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

COMMON_NAME, ALTERNATIVE_NAME, SPIFFE = (
    "x509_common_name",
    "x509_subject_alternative_name",
    "peer_spiffe_id",
)  # gRPC's names of these properties.


def name(transport: asyncio.BaseTransport) -> str:
    """As gRPC writes it: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`, `unix:`."""
    address = transport.get_extra_info("peername")
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
    return "unix:" + (address if isinstance(address, str) else "")


def speaks_http2(transport: asyncio.BaseTransport) -> bool:
    """RFC 9113 §3.2: over TLS, ALPN has chosen `h2`."""
    tls = transport.get_extra_info("ssl_object")
    return tls is None or tls.selected_alpn_protocol() == "h2"


def properties(transport: asyncio.BaseTransport) -> dict[str, list[bytes]]:
    """gRPC's auth context. Of a certificate only what the handshake has verified; empty without TLS."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return {}
    found: dict[str, list[bytes]] = {
        "transport_security_type": [b"ssl"],
        "security_level": [b"TSI_PRIVACY_AND_INTEGRITY"],
    }
    certificate: dict[str, Any] = tls.getpeercert() or {}
    subject = [pair for group in certificate.get("subject", ()) for pair in group]
    alternatives = certificate.get("subjectAltName", ())
    common = [value.encode() for key, value in subject if key == "commonName"]
    spiffe = [
        value.encode() for kind, value in alternatives if kind == "URI" and value.startswith("spiffe://")
    ]
    facts = {
        COMMON_NAME: common,
        ALTERNATIVE_NAME: [value.encode() for _, value in alternatives],
        # A SPIFFE certificate has exactly one URI (X.509-SVID §2): of several, none is to be believed.
        SPIFFE: spiffe if len(spiffe) == 1 else [],
    }
    return found | {key: values for key, values in facts.items() if values}


def identity_key(facts: dict[str, list[bytes]]) -> str | None:
    """The property that names the peer."""
    return next((key for key in (ALTERNATIVE_NAME, COMMON_NAME) if key in facts), None)
