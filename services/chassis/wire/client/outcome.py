"""How a call ended: its status, its metadata, and the error that tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import grpc
from grpc import StatusCode

from services.chassis.wire import metadata as wire_metadata
from services.chassis.wire.hpack import Header
from services.chassis.wire.metadata import CODES, MetadataFault, Metadatum, code_of_http_status, read_status

PUSHBACK = b"grpc-retry-pushback-ms"  # gRFC A6: when, or whether at all, the server wants to be asked again.
_PUSHBACK_DIGITS_MAX = 10  # A signed 32-bit integer.
# The codec that was asked for is protobuf; a message in another cannot be meant for us.
_CONTENT_TYPES = (b"application/grpc", b"application/grpc+proto")


class Status(NamedTuple):
    """Code and details of a finished call."""

    code: StatusCode
    details: str = ""


OK = Status(StatusCode.OK)


class Metadata(tuple[Metadatum, ...]):
    """Pairs of key and value, which can be asked by key as well, as grpc.aio's can."""

    __slots__ = ()

    def keys(self) -> list[str]:
        return list(dict.fromkeys(key for key, _ in self))

    def get(self, key: str, default: str | bytes | None = None) -> str | bytes | None:
        """The first value of `key`."""
        return next((value for each, value in self if each == key), default)

    def get_all(self, key: str) -> list[str | bytes]:
        return [value for each, value in self if each == key]

    def __contains__(self, key: object) -> bool:
        return any(key in (each[0], each) for each in self)

    @overload  # type: ignore[override] # a key beside tuple's own indices
    def __getitem__(self, key: str) -> str | bytes: ...
    @overload
    def __getitem__(self, key: int) -> Metadatum: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Metadatum, ...]: ...
    def __getitem__(self, key: str | int | slice) -> object:
        if not isinstance(key, str):
            return super().__getitem__(key)
        for each, value in self:
            if each == key:
                return value
        raise KeyError(key)


NO_METADATA = Metadata()


class RpcError(grpc.RpcError):
    """A call that did not end OK; it has the methods of grpc.aio.AioRpcError."""

    def __init__(
        self,
        status: Status,
        initial_metadata: Metadata = NO_METADATA,
        trailing_metadata: Metadata = NO_METADATA,
    ) -> None:
        super().__init__(status, initial_metadata, trailing_metadata)
        self._status, self._initial, self._trailing = status, initial_metadata, trailing_metadata

    def code(self) -> StatusCode:
        return self._status.code

    def details(self) -> str:
        return self._status.details

    def initial_metadata(self) -> Metadata:
        return self._initial

    def trailing_metadata(self) -> Metadata:  # type: ignore[override] # typed with a private class
        return self._trailing

    def debug_error_string(self) -> str:
        return f"{self._status.code.name}: {self._status.details}"

    def __str__(self) -> str:
        return self.debug_error_string()

    __repr__ = __str__


def read_metadata(fields: Sequence[Header]) -> Metadata:
    """What the application is told of headers or trailers; a value that is no base64 is left out."""
    try:
        return Metadata(wire_metadata.from_fields(fields))
    except MetadataFault:
        return Metadata(pair for field in fields for pair in _readable(field))


def _readable(field: Header) -> tuple[Metadatum, ...]:
    try:
        return wire_metadata.from_fields((field,))
    except MetadataFault:
        return ()


def status_of_headers(pseudo: dict[bytes, bytes], named: dict[bytes, bytes]) -> Status | None:
    """The status that the first headers of an answer are in themselves; None for those of gRPC's server.

    "HTTP to gRPC Status Code Mapping": a proxy's page is not an answer of the server.
    """
    http, kind = pseudo[b":status"], named.get(b"content-type", b"")
    if http != b"200":
        return Status(code_of_http_status(int(http)), f"the answer has HTTP status {int(http)}")
    if kind.split(b";")[0].strip() in _CONTENT_TYPES:
        return None
    return Status(StatusCode.UNKNOWN, f"the answer is of content-type {kind.decode('latin-1')!r}, not gRPC")


def status_of_trailers(fields: Sequence[Header]) -> Status:
    """What the server says at the end; without a word of it, UNKNOWN."""
    found = read_status(fields)
    if found is None:
        return Status(StatusCode.UNKNOWN, "the answer ended without grpc-status")
    return Status(CODES[found[0]], found[1])


def pushback_s(fields: Sequence[Header]) -> float | None:
    """Seconds after which the server wants to be asked again; below 0 never, None if it does not say."""
    for name, value in fields:
        if name == PUSHBACK:
            digits = value.isdigit() and len(value) <= _PUSHBACK_DIGITS_MAX
            return int(value) / 1000 if digits else -1.0
    return None
