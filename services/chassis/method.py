"""The methods a process answers, and the call that a handler is given: no engine is known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor

from services.chassis import access
from services.chassis.caller import ANONYMOUS, Caller
from weft.options.v1 import options_pb2

Metadata = Sequence[tuple[str, str | bytes]]
RETRIED = {
    descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS,
    descriptor_pb2.MethodOptions.IDEMPOTENT,
}


@dataclass(frozen=True, slots=True)
class Method:
    """One rpc: how it is named, shaped, coded, guarded and answered."""

    path: str  # `/weft.identity.v1.UserService/GetUser`
    request_streaming: bool
    response_streaming: bool
    handler: Callable[[Any, Any], Any]
    deserialize: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]
    rule: access.Rule
    idempotent: bool  # Declared so by `idempotency_level`: a repeat changes nothing more.
    request: str  # Full name of the request's message.
    response: type[Any]  # The response's message class.
    secret: bool  # The response holds a secret somewhere: it is never kept.
    priority: int = options_pb2.PRIORITY_NORMAL  # What is shed first; more can wait longer.


class Transport(Protocol):
    """What an engine knows of one call in flight."""

    def metadata(self) -> Metadata: ...
    def time_remaining(self) -> float | None: ...
    def peer(self) -> str: ...
    async def send_initial_metadata(self, metadata: Metadata) -> None: ...
    def set_trailing_metadata(self, metadata: Metadata) -> None: ...


@dataclass(slots=True)
class Call:
    """The call being answered: who asks, until when, with which metadata."""

    method: Method
    transport: Transport
    caller: Caller = ANONYMOUS
    headers: Mapping[str, str | bytes] = field(default_factory=dict)  # Last value wins.

    def header(self, name: str) -> str:
        """A text value of the request's metadata; empty when it is absent."""
        value = self.headers.get(name, "")
        return value if isinstance(value, str) else value.decode("ascii", "replace")

    def time_remaining(self) -> float | None:
        """Seconds until the caller stops waiting; None when it waits for ever."""
        return self.transport.time_remaining()

    def peer(self) -> str:
        """The caller's address: as the edge saw it, else the socket's."""
        forwarded = self.header("x-forwarded-for").split(",")[-1].strip()
        return forwarded or self.transport.peer()

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        await self.transport.send_initial_metadata(metadata)

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        self.transport.set_trailing_metadata(metadata)


class Methods:
    """Takes what generated `add_XServicer_to_server` functions register; stands in for a server."""

    def __init__(self) -> None:
        self.by_path: dict[str, Method] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The same handlers arrive once more, by name, in add_registered_method_handlers."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        for name, handler in handlers.items():
            method = _method(service, name, handler)
            self.by_path[method.path] = method

    def services(self) -> list[str]:
        """Full names of the gRPC services, sorted."""
        return sorted({path.split("/")[1] for path in self.by_path})


def describe(service: str, name: str) -> MethodDescriptor:
    """The contract of a method, out of the pool that the generated modules fill."""
    return descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name)


def holds_secret(message: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a field at any depth is marked `(weft.options.v1.secret)`."""
    if message.full_name in seen:
        return False
    seen |= {message.full_name}
    return any(
        field.GetOptions().Extensions[options_pb2.secret]
        or (field.message_type is not None and holds_secret(field.message_type, seen))
        for field in message.fields
    )


def _priority(contract: MethodDescriptor) -> int:
    """Health and reflection tell who is well: they are never shed."""
    if not contract.containing_service.full_name.startswith("weft."):
        return options_pb2.PRIORITY_CRITICAL
    return contract.GetOptions().Extensions[options_pb2.priority] or options_pb2.PRIORITY_NORMAL


def _method(service: str, name: str, handler: Any) -> Method:
    contract = describe(service, name)
    answer = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    return Method(
        path=f"/{service}/{name}",
        request_streaming=handler.request_streaming,
        response_streaming=handler.response_streaming,
        handler=answer,
        deserialize=handler.request_deserializer,
        serialize=handler.response_serializer,
        rule=access.rule(contract),
        idempotent=contract.GetOptions().idempotency_level in RETRIED,
        request=contract.input_type.full_name,
        response=message_factory.GetMessageClass(contract.output_type),
        secret=holds_secret(contract.output_type),
        priority=_priority(contract),
    )
