"""The header list of a request: checked, and read once for all requests that look alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from grpc import StatusCode

from services.chassis.wire import metadata
from services.chassis.wire.hpack import Header

if TYPE_CHECKING:
    from services.chassis.wire.server.call import Route

ENCODINGS = b"identity,gzip"
_PSEUDO = {b":method", b":scheme", b":path", b":authority"}  # §8.3.1
_CONNECTION_SPECIFIC = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
# §8.2.1: names are tokens in lower case; values have no NUL, CR, LF, and no tab at either end. Spaces there,
# which it forbids too, are let pass: grpcio's clients send what they are given, and gRPC says that we may.
_NAMES = re.compile(rb"(?::?[!#$%&'*+\-.^_`|~0-9a-z]+\n)*")
_VALUES = re.compile(rb"(?:(?!\t)[^\0\r\n]*(?<!\t)\n)*")
_CONTENT_TYPE = re.compile(rb"application/grpc(?:\+proto)?(?:;.*)?")


class Malformed(Exception):
    """§8.1.1: the stream ends with PROTOCOL_ERROR."""


class Head:
    """What a request says before its messages."""

    __slots__ = ("accepts_gzip", "encoding", "fields", "length", "path", "refusal", "route", "timeout_s")

    def __init__(self, fields: list[Header]) -> None:
        """Raises Malformed."""
        check(fields)
        pseudo, named = _divided(fields)
        self.fields = fields
        self.path = pseudo[b":path"].decode("latin-1")
        self.route: Route | None = None
        self.timeout_s: float | None = None
        self.encoding = named.get(b"grpc-encoding")
        accepted = named.get(b"grpc-accept-encoding", b"").split(b",")
        self.accepts_gzip = b"gzip" in {each.strip() for each in accepted}
        self.length = _length(named.get(b"content-length"))
        self.refusal = self._refusal(pseudo, named)

    def _refusal(self, pseudo: dict[bytes, bytes], named: dict[bytes, bytes]) -> list[Header] | None:
        """The answer to what is no call that anybody here could take."""
        if pseudo[b":method"] != b"POST":
            return [(b":status", b"405"), (b"allow", b"POST")]
        if not _CONTENT_TYPE.fullmatch(named.get(b"content-type", b"")):
            return [(b":status", b"415"), (b"accept", b"application/grpc")]
        if self.encoding not in (None, b"identity", b"gzip"):
            accepted = (b"grpc-accept-encoding", ENCODINGS)
            return [*trailers_only(StatusCode.UNIMPLEMENTED, "this grpc-encoding is not supported"), accepted]
        timeout = named.get(b"grpc-timeout")
        if timeout is not None:
            try:
                self.timeout_s = metadata.decode_timeout(timeout)
            except metadata.MetadataFault as fault:
                return trailers_only(StatusCode.INTERNAL, str(fault))
        return None


def trailers_only(code: StatusCode, message: str) -> list[Header]:
    """An answer that is nothing but its status (Trailers-Only)."""
    head = [(b":status", b"200"), (b"content-type", b"application/grpc")]
    return head + metadata.status_fields(code.value[0], message)


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


def _divided(fields: list[Header]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Pseudo-headers, and the others by name (the last of a name counts)."""
    pseudo: dict[bytes, bytes] = {}
    named: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            named[name] = value
        elif named or name in pseudo or name not in _PSEUDO:
            raise Malformed("a pseudo-header is unknown, repeated or out of place")
        else:
            pseudo[name] = value
    if not {b":method", b":scheme", b":path"} <= pseudo.keys() or not all(pseudo.values()):
        raise Malformed("a pseudo-header is missing or empty")
    if _CONNECTION_SPECIFIC & named.keys() or named.get(b"te", b"trailers") != b"trailers":
        raise Malformed("a connection-specific field")
    return pseudo, named


def _length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Malformed("content-length is no number")
    return int(value)
