"""What a header list may look like (RFC 9113 §8.1.1, §8.2, §8.3): the same for requests and responses."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

from services.chassis.wire.hpack import Header

LENGTH_DIGITS_MAX = 18  # Of a content-length: no message of ours is near it.
_CONNECTION_SPECIFIC = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
# §8.2.1: names are tokens in lower case; values have no NUL, CR, LF, and no tab at either end. Spaces there,
# which it forbids too, are let pass: grpcio's clients send what they are given, and gRPC says that we may.
_NAMES = re.compile(rb"(?::?[!#$%&'*+\-.^_`|~0-9a-z]+\n)*")
_VALUES = re.compile(rb"(?:(?!\t)[^\0\r\n]*(?<!\t)\n)*")


class Malformed(Exception):
    """§8.1.1: the stream ends with PROTOCOL_ERROR."""


def check(fields: list[Header], trailers: bool = False) -> None:
    """Raises Malformed for field names, values or an order that §8.2 and §8.3 forbid."""
    names = b"\n".join([name for name, _ in fields]) + b"\n"
    values = b"\n".join([value for _, value in fields]) + b"\n"
    count = len(fields)
    if fields and (names.count(b"\n") != count or not _NAMES.fullmatch(names)):
        raise Malformed("a field name is not valid")
    if fields and (values.count(b"\n") != count or not _VALUES.fullmatch(values)):
        raise Malformed("a field value is not valid")
    if trailers and any(name[:1] == b":" or name in _CONNECTION_SPECIFIC for name, _ in fields):
        raise Malformed("trailers have a pseudo-header or a connection-specific field")


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
