"""Metadata, status and timeouts of gRPC as header fields (the gRPC-over-HTTP2 protocol document)."""

import math
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from grpc import StatusCode

from services.chassis.wire.errors import ErrorCode

Field = tuple[bytes, bytes]
Metadatum = tuple[str, str | bytes]

TIMEOUT_DIGITS_MAX = 8  # Timeout: TimeoutValue is "positive integer as ASCII string of at most 8 digits".
# What the protocol itself says; metadata may not say it over (Call-Definition, RFC 9113 §8.2.2).
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
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
    )
)
_OWNED_FIELDS = frozenset(name.encode() for name in OWNED)
_KEY = re.compile(r"[0-9a-z_.-]+")  # Header-Name.
_VALUE = re.compile(r"[\x20-\x7e]*")  # ASCII-Value.
_UNITS = (
    (b"n", 1e-9),
    (b"u", 1e-6),
    (b"m", 1e-3),
    (b"S", 1.0),
    (b"M", 60.0),
    (b"H", 3600.0),
)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = dict(_UNITS)


class MetadataFault(ValueError):
    """Metadata that cannot be sent, or a field that does not say what it should."""


def to_fields(metadata: Iterable[Metadatum]) -> list[Field]:
    """Header fields of what an application says. Raises MetadataFault naming key and rule."""
    return [_to_field(key, value) for key, value in metadata]


def _to_field(key: str, value: str | bytes) -> Field:
    if not _KEY.fullmatch(key):
        raise MetadataFault(f"metadata key {key!r} has other characters than 0-9 a-z _ - .")
    if key in OWNED:
        raise MetadataFault(f"metadata key {key!r} belongs to the protocol")
    if key.endswith("-bin"):
        raw = value.encode() if isinstance(value, str) else value
        return key.encode(), b64encode(raw).rstrip(b"=")
    text = value if isinstance(value, str) else value.decode("latin-1")
    if not _VALUE.fullmatch(text):
        raise MetadataFault(f"the value of metadata key {key!r} has other characters than printable ASCII")
    return key.encode(), text.strip(" ").encode()


def from_fields(fields: Iterable[Field]) -> tuple[Metadatum, ...]:
    """What an application is told: all but pseudo-headers and what the protocol owns.

    A binary value that joins several by commas becomes several. Raises MetadataFault for wrong base64.
    """
    found: list[Metadatum] = []
    for name, value in fields:
        if name[:1] == b":" or name in _OWNED_FIELDS:
            continue
        key = name.decode("latin-1")
        if name.endswith(b"-bin"):
            found += [(key, _from_base64(key, part.strip(b" "))) for part in value.split(b",")]
        else:
            found.append((key, value.decode("latin-1")))
    return tuple(found)


def _from_base64(key: str, value: bytes) -> bytes:
    """With or without padding, as receivers must take it."""
    try:
        return b64decode(value.rstrip(b"=") + b"=" * (-len(value.rstrip(b"=")) % 4), validate=True)
    except Base64Error as error:
        raise MetadataFault(f"the value of metadata key {key!r} is no base64") from error


def encode_message(text: str) -> bytes:
    """grpc-message: UTF-8, percent-encoded but for printable ASCII without `%`."""
    return _ENCODED.sub(lambda byte: b"%%%02X" % byte[0][0], text.encode(errors="replace"))


_ENCODED = re.compile(rb"[^\x20-\x24\x26-\x7e]")


def decode_message(value: bytes) -> str:
    """The inverse. What is wrong is kept as it stands, as receivers must: a message is never lost."""
    return unquote_to_bytes(value).decode(errors="replace")


def encode_timeout(seconds: float) -> bytes:
    """grpc-timeout, rounded up to the finest unit of at most 8 digits: no deadline comes early.

    What is past already becomes the shortest timeout there is.
    """
    for unit, size in _UNITS:
        count = max(1, math.ceil(seconds / size))
        if count < 10**TIMEOUT_DIGITS_MAX:
            return b"%d%b" % (count, unit)
    return b"99999999H"


def decode_timeout(value: bytes) -> float:
    """Seconds. Raises MetadataFault."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise MetadataFault(f"grpc-timeout {value.decode('latin-1')!r} is not up to 8 digits and a unit")
    return int(found[1]) * _SECONDS[found[2]]


def status_fields(code: int, message: str = "") -> list[Field]:
    """Status and Status-Message of Trailers."""
    fields = [(b"grpc-status", b"%d" % code)]
    if message:
        fields.append((b"grpc-message", encode_message(message)))
    return fields


def read_status(fields: Iterable[Field]) -> tuple[int, str] | None:
    """Code and message of trailers; None if they have no grpc-status. A code nobody knows is UNKNOWN."""
    code: int | None = None
    message = ""
    for name, value in fields:
        if name == b"grpc-status":
            code = int(value) if value.isdigit() and len(value) <= 2 else _UNKNOWN
        elif name == b"grpc-message":
            message = decode_message(value)
    if code is None:
        return None
    return (code if code in CODES else _UNKNOWN), message


CODES: dict[int, StatusCode] = {code.value[0]: code for code in StatusCode}
_UNKNOWN = int(StatusCode.UNKNOWN.value[0])

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
    return _BY_HTTP_STATUS.get(status, StatusCode.UNKNOWN)


def code_of_reset(code: int) -> StatusCode:
    return _BY_ERROR_CODE.get(code, StatusCode.INTERNAL)
