"""The header block of a message: `NATS/1.0`, perhaps a status, then lines of `Name: value` (ADR-4)."""

from collections.abc import Mapping

from services.chassis.jetstream.errors import ProtocolError

BLOCK_BYTES_MAX = 64 * 1024  # Beyond it a header is a document, and belongs into the payload.


def encode(headers: Mapping[str, str]) -> bytes:
    """The block; empty for no headers. Raises ProtocolError on what would break out of its line."""
    return framed(lines(headers)) if headers else b""


def framed(lines: bytes) -> bytes:
    """The block of which these are the lines."""
    return b"NATS/1.0\r\n%b\r\n" % lines


def lines(headers: Mapping[str, str]) -> bytes:
    """The headers alone, to be framed together with others. Raises ProtocolError."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ProtocolError("a header holds a line break")
    if not all(map(_well_named, headers)):
        raise ProtocolError("a header's name is empty, or holds a colon or white space")
    encoded = text.encode()
    if len(encoded) > BLOCK_BYTES_MAX:
        raise ProtocolError(f"headers take more than {BLOCK_BYTES_MAX} bytes")
    return encoded


def _well_named(name: str) -> bool:
    return ":" not in name and name.split() == [name]


def decode(head: bytes) -> dict[str, str]:
    """Names and values; of a name that came more than once, the last value."""
    found = {}
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found[name.decode(errors="replace")] = value.strip().decode(errors="replace")
    return found


def status(head: bytes) -> int:
    """The status code of a message that the server itself sent; 0: it is somebody's message."""
    code = head[8:12].strip()
    return int(code) if code.isdigit() else 0
