"""The header list of a request: checked, and read once for all requests that look alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from grpc import StatusCode

from services.chassis.wire import metadata
from services.chassis.wire.fields import check, divided, length
from services.chassis.wire.hpack import Header

if TYPE_CHECKING:
    from services.chassis.wire.server.call import Route

ENCODINGS = b"identity,gzip"
_NEEDED = {b":method", b":scheme", b":path"}  # §8.3.1
_PSEUDO = _NEEDED | {b":authority"}
_CONTENT_TYPE = re.compile(rb"application/grpc(?:\+proto)?(?:;.*)?")


class Head:
    """What a request says before its messages."""

    __slots__ = (
        "_metadata",
        "accepts_gzip",
        "encoding",
        "fields",
        "length",
        "path",
        "refusal",
        "route",
        "timeout_s",
    )

    def __init__(self, fields: list[Header]) -> None:
        """Raises Malformed."""
        check(fields)
        pseudo, named = divided(fields, _PSEUDO, _NEEDED)
        self.fields = fields
        self._metadata: tuple[metadata.Metadatum, ...] | None = None
        self.path = pseudo[b":path"].decode("latin-1")
        self.route: Route | None = None
        self.timeout_s: float | None = None
        self.encoding = named.get(b"grpc-encoding")
        accepted = named.get(b"grpc-accept-encoding", b"").split(b",")
        self.accepts_gzip = b"gzip" in {each.strip() for each in accepted}
        self.length = length(named.get(b"content-length"))
        self.refusal = self._refusal(pseudo, named)

    def metadata(self) -> tuple[metadata.Metadatum, ...]:
        """What the application is told. Raises MetadataFault for binary values that are not base64."""
        if self._metadata is None:
            self._metadata = metadata.from_fields(self.fields)
        return self._metadata

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
