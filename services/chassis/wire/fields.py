"""What a header list may look like (RFC 9113 §8.1.1, §8.2, §8.3): the same for requests and responses."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

from services.chassis.wire.hpack import STATIC_TABLE, Header

LENGTH_DIGITS_MAX = 18  # Of a content-length: no message of ours is near it.
_CONNECTION_SPECIFIC = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
# §8.2.1: names are tokens in lower case. Those that every call has need no look.
_NAMES = re.compile(rb"(?::?[!#$%&'*+\-.^_`|~0-9a-z]+\n)*")
_GRPC_NAMES = (
    b"te",
    b"grpc-accept-encoding",
    b"grpc-encoding",
    b"grpc-timeout",
    b"grpc-status",
    b"grpc-message",
)
_TRACE_NAMES = (b"traceparent", b"tracestate", b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto")
_KNOWN_NAMES = frozenset([*(name for name, _ in STATIC_TABLE), *_GRPC_NAMES, *_TRACE_NAMES])


class Malformed(Exception):
    """§8.1.1: the stream ends with PROTOCOL_ERROR."""


def check(fields: list[Header], trailers: bool = False) -> None:
    """Raises Malformed for field names, values or an order that §8.2 and §8.3 forbid."""
    unknown = {name for name, _ in fields} - _KNOWN_NAMES
    if unknown:
        names = b"\n".join(unknown) + b"\n"
        if names.count(b"\n") != len(unknown) or not _NAMES.fullmatch(names):
            raise Malformed("a field name is not valid")
    if not _valid([value for _, value in fields]):
        raise Malformed("a field value is not valid")
    if trailers and any(name[:1] == b":" or name in _CONNECTION_SPECIFIC for name, _ in fields):
        raise Malformed("trailers have a pseudo-header or a connection-specific field")


def _valid(values: list[bytes]) -> bool:
    """§8.2.1: no NUL, CR, LF, and no tab at either end.

    Spaces there, which it forbids too, are let pass: grpcio's clients send what they are given, and gRPC says
    that we may.
    """
    joined = b"\n".join(values)
    if b"\0" in joined or b"\r" in joined or (values and joined.count(b"\n") != len(values) - 1):
        return False
    return b"\t" not in joined or all(value.strip(b"\t") == value for value in values)


def divided(
    fields: list[Header], known: AbstractSet[bytes], needed: AbstractSet[bytes]
) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Pseudo-headers (§8.3), and the others by name (the last of a name counts). Raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    named: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            named[name] = value
        elif named or name in pseudo or name not in known:
            raise Malformed("a pseudo-header is unknown, repeated or out of place")
        else:
            pseudo[name] = value
    if not needed <= pseudo.keys() or not all(pseudo.values()):
        raise Malformed("a pseudo-header is missing or empty")
    if _CONNECTION_SPECIFIC & named.keys() or named.get(b"te", b"trailers") != b"trailers":
        raise Malformed("a connection-specific field")
    return pseudo, named


def length(value: bytes | None) -> int | None:
    """Of a content-length, which DATA must keep. Raises Malformed."""
    if value is None:
        return None
    if not value.isdigit() or len(value) > LENGTH_DIGITS_MAX:
        raise Malformed("content-length is no number")
    return int(value)
