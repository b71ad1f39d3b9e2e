"""Metadata, status and timeouts of gRPC as header fields (the gRPC-over-HTTP2 protocol document)."""

import re
from binascii import Error as Base64Error, a2b_base64, b2a_base64
from collections.abc import Iterable
from functools import lru_cache
from math import ceil
from urllib.parse import unquote_to_bytes

from grpc import StatusCode

from services.chassis.wire.errors import ErrorCode

Field = tuple[bytes, bytes]
Metadatum = tuple[str, str | bytes]

# What the protocol itself says in a call: no metadata may say it over, nor is told of it.
OWNED = frozenset(
    (
        "te",
        "content-type",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-accept-encoding",
        "grpc-message-type",
        "grpc-status",
        "grpc-message",
        "host",
        "content-length",
        "connection",  # RFC 9113 §8.2.2: this and those below.
        "proxy-connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
    )
)
TIMEOUT_MAX = 99_999_999  # TimeoutValue has at most 8 digits.
MESSAGE_BYTES_MAX = 4096  # Of a grpc-message; with 8 KB of trailers, gRPC's clients refuse the whole answer.
NAMES_MAX = 256  # Keys that are remembered; an application has a handful.

_KEY = re.compile(r"[0-9a-z_.-]+")  # Header-Name.
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_TO_ENCODE = re.compile(rb"[^\x20-\x24\x26-\x7e]")  # Percent-Encoded: all but Percent-Byte-Unencoded.
_CUT_OFF = re.compile(rb"%[0-9A-F]?\Z")
# TimeoutUnit, and its length in seconds as a fraction of integers: these divide exactly.
_UNITS = ((b"n", 10**9, 1), (b"u", 10**6, 1), (b"m", 1000, 1), (b"S", 1, 1), (b"M", 1, 60), (b"H", 1, 3600))
_SECONDS = {unit: (many, one) for unit, one, many in _UNITS}


class MetadataFault(ValueError):
    """Metadata that cannot be sent, or a field that does not say what it should."""


def to_fields(metadata: Iterable[Metadatum]) -> list[Field]:
    """Header fields of what an application says. Raises MetadataFault naming key and rule.

    Blanks around a value are left out, as RFC 9113 §8.2.1 forbids them.
    """
    fields = []
    for key, value in metadata:
        name, binary = _name(key)
        if binary:
            fields.append((name, b2a_base64(_octets(value), newline=False).rstrip(b"=")))
            continue
        text = value if isinstance(value, str) else value.decode("latin-1")
        if not (text.isascii() and text.isprintable()):
            rule = "other characters than printable ASCII: only keys with -bin may have them"
            raise MetadataFault(f"the value of metadata key {key!r} has {rule}")
        fields.append((name, text.strip(" ").encode()))
    return fields


@lru_cache(NAMES_MAX)
def _name(key: str) -> tuple[bytes, bool]:
    """As it stands in a field, and whether its values are binary."""
    if not _KEY.fullmatch(key):
        raise MetadataFault(f"metadata key {key!r} has other characters than 0-9 a-z _ - .")
    if key in OWNED:
        raise MetadataFault(f"metadata key {key!r} belongs to the protocol")
    return key.encode(), key.endswith("-bin")


def _octets(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def from_fields(fields: Iterable[Field]) -> tuple[Metadatum, ...]:
    """What an application is told: all but pseudo-headers and what the protocol owns.

    A binary value that joins several by commas becomes several. A text with other characters than an
    application may say itself is thrown away, as gRPC allows: it could not be passed on. Raises MetadataFault
    for wrong base64.
    """
    found: list[Metadatum] = []
    for name, value in fields:
        key, binary = _key(name)
        if binary:
            found += [(key, _from_base64(key, part)) for part in value.split(b",")]
        elif key and (text := value.decode("latin-1")).isascii() and text.isprintable():
            found.append((key, text))
    return tuple(found)


@lru_cache(NAMES_MAX)
def _key(name: bytes) -> tuple[str, bool]:
    """As an application is told of it, and whether its values are binary; empty if it is not told."""
    key = name.decode("latin-1")
    return ("", False) if key[:1] == ":" or key in OWNED else (key, key.endswith("-bin"))


def _from_base64(key: str, value: bytes) -> bytes:
    """With or without padding, as receivers must take it."""
    bare = value.strip(b" ").rstrip(b"=")
    try:
        return a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
    except Base64Error as error:
        raise MetadataFault(f"the value of metadata key {key!r} is no base64") from error


def encode_message(text: str) -> bytes:
    """grpc-message: UTF-8, percent-encoded but for printable ASCII without `%`. Cut off if it is too long."""
    message = text[:MESSAGE_BYTES_MAX].encode(errors="replace")
    message = _TO_ENCODE.sub(lambda octet: b"%%%02X" % octet[0][0], message)
    return message if len(message) <= MESSAGE_BYTES_MAX else _CUT_OFF.sub(b"", message[:MESSAGE_BYTES_MAX])


def decode_message(value: bytes) -> str:
    """The inverse. What is wrong stays as it is, as receivers must do: a message is never lost."""
    return unquote_to_bytes(value).decode(errors="replace")


def encode_timeout(seconds: float) -> bytes:
    """grpc-timeout, in the finest unit that has digits for it, rounded up: no deadline comes early.

    What is over already becomes the shortest timeout that can be said, as none at all would last for ever.
    """
    if not seconds > 0:
        return b"1n"
    for unit, one, many in _UNITS:
        count = seconds * one / many
        if count <= TIMEOUT_MAX:
            return b"%d%b" % (ceil(count), unit)
    return b"%dH" % TIMEOUT_MAX


def decode_timeout(value: bytes) -> float:
    """Seconds. Raises MetadataFault."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise MetadataFault(f"grpc-timeout {value.decode('latin-1')!r} is not up to 8 digits and a unit")
    many, one = _SECONDS[found[2]]
    return int(found[1]) * many / one


def status_fields(code: int, message: str = "") -> list[Field]:
    """Status and Status-Message."""
    fields = [(b"grpc-status", b"%d" % code)]
    if message:
        fields.append((b"grpc-message", encode_message(message)))
    return fields


def read_status(fields: Iterable[Field]) -> tuple[int, str] | None:
    """Code and message of trailers; None if they have no grpc-status. A code that nobody knows is UNKNOWN."""
    status, message = None, b""
    for name, value in fields:
        if name == b"grpc-status":
            status = value
        elif name == b"grpc-message":
            message = value
    if status is None:
        return None
    code = _BY_STATUS.get(status, _UNKNOWN)
    return code, decode_message(message) if message else ""


CODES: dict[int, StatusCode] = {code.value[0]: code for code in StatusCode}
_UNKNOWN = int(StatusCode.UNKNOWN.value[0])
_BY_STATUS = {b"%d" % code: code for code in CODES}

# "HTTP to gRPC Status Code Mapping": for answers that did not come from a gRPC server.
_BY_HTTP_STATUS = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    429: StatusCode.UNAVAILABLE,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}
# "Errors": what RST_STREAM means to a caller.
_BY_ERROR_CODE: dict[int, StatusCode] = {
    ErrorCode.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
}


def code_of_http_status(status: int) -> StatusCode:
    """Of an answer without grpc-status."""
    return _BY_HTTP_STATUS.get(status, StatusCode.UNKNOWN)


def code_of_reset(code: int) -> StatusCode:
    """Of a stream that ended with RST_STREAM; `code` may be one that RFC 9113 does not know."""
    return _BY_ERROR_CODE.get(code, StatusCode.INTERNAL)
