"""The one channel out: any rpc of the mesh by its name, in this process or across it.

Deadline, trace and identity of the call being answered are passed on. A callee hosted in this process
is called without a socket, through the same path of access, validation and refusals.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from google.rpc import code_pb2
from opentelemetry.trace import SpanKind

from services.chassis import telemetry
from services.chassis.caller import SERVICE_HEADER, Signer
from services.chassis.engine import Client, Outgoing
from services.chassis.errors import CallFailed, Refusal
from services.chassis.method import RETRIED, Metadata, Methods, describe
from services.chassis.rpc import UNARY_S_MAX, Answering, current_call

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
One = Callable[..., Awaitable[Any]]
Many = Callable[..., AsyncGenerator[Any, None]]

ATTEMPTS_MAX = 3  # Of a call declared idempotent, while the callee is UNAVAILABLE.
BACKOFF_S, BACKOFF_S_MAX = 0.05, 1.0
RETRY_TOKENS, RETRY_TOKEN_RATIO = 20, 0.1  # Retries stop when more than about 1 in 10 calls fails (gRPC A6).


@dataclass(frozen=True, slots=True)
class Remote:
    """A method as a generated stub names it."""

    path: str
    request_streaming: bool
    response_streaming: bool
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class Mesh:
    """A channel for generated stubs: `UserServiceStub(mesh)`."""

    def __init__(self, ways: Ways, signer: Signer, tracing: telemetry.Tracing) -> None:
        self._ways, self._signer, self._tracing = ways, signer, tracing

    def unary_unary(
        self, path: str, *, request_serializer: Encode, response_deserializer: Decode, **_: Any
    ) -> One:
        return self._one(Remote(path, False, False, request_serializer, response_deserializer))

    def unary_stream(
        self, path: str, *, request_serializer: Encode, response_deserializer: Decode, **_: Any
    ) -> Many:
        return self._many(Remote(path, False, True, request_serializer, response_deserializer))

    def stream_unary(
        self, path: str, *, request_serializer: Encode, response_deserializer: Decode, **_: Any
    ) -> One:
        return self._one(Remote(path, True, False, request_serializer, response_deserializer))

    def stream_stream(
        self, path: str, *, request_serializer: Encode, response_deserializer: Decode, **_: Any
    ) -> Many:
        return self._many(Remote(path, True, True, request_serializer, response_deserializer))

    def _one(self, method: Remote) -> One:
        way = self._ways.to(method.path)

        async def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> Any:  # noqa: ASYNC109
            with self._calling(method, timeout, metadata) as sending:
                return await way().unary(method, request, *sending)

        return call

    def _many(self, method: Remote) -> Many:
        way = self._ways.to(method.path)

        async def call(
            request: Any,
            *,
            timeout: float | None = None,  # noqa: ASYNC109 - a stub's parameter
            metadata: Metadata = (),
        ) -> AsyncGenerator[Any, None]:
            with self._calling(method, timeout, metadata) as sending:
                responses = way().stream(method, request, *sending)
                async with aclosing(responses):
                    async for response in responses:
                        yield response

        return call

    def _calling(self, method: Remote, timeout: float | None, metadata: Metadata) -> _Calling:
        return _Calling(method, _remaining(method, timeout), metadata, self._signer, self._tracing)


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways to a callee: in this process, else over a channel that retries, or one that must not."""

    local: Local
    retrying: Client
    once: Client

    def to(self, path: str) -> Callable[[], Client]:
        """Chosen at each call, as a stub may be made before its callee is hosted here."""
        remote = self.retrying if idempotent(path) else self.once
        return lambda: self.local if path in self.local else remote


class _Calling:
    """A call on its way out: its deadline and metadata inside, its span and metric at the end."""

    def __init__(
        self,
        method: Remote,
        timeout: float | None,
        metadata: Metadata,
        signer: Signer,
        tracing: telemetry.Tracing,
    ) -> None:
        self._method, self._timeout, self._metadata = method, timeout, metadata
        here = telemetry.current_trace.get()
        parent = here if here.trace_id else tracing.begin("")
        self._span = tracing.span(method.path.strip("/"), parent, SpanKind.CLIENT)
        self._trace, self._token = telemetry.place(self._span, parent), signer.token()

    def __enter__(self) -> tuple[float | None, Metadata]:
        sent = [("traceparent", self._trace.header()), (SERVICE_HEADER, self._token)]
        call = current_call.get()
        if call is not None and call.caller.token:
            sent.append(("authorization", f"Bearer {call.caller.token}"))
        return self._timeout, (*sent, *self._metadata)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        code = code_pb2.OK
        if isinstance(error, CallFailed):
            code = error.code
        elif isinstance(error, asyncio.CancelledError):
            code = code_pb2.CANCELLED
        elif error is not None and not isinstance(error, GeneratorExit):
            code = code_pb2.UNKNOWN
        telemetry.called(self._method.path, code)
        telemetry.end(self._span, self._method.path, code, code != code_pb2.OK)


class Local:
    """The methods of this process, called without a socket; messages are copied as a wire would."""

    def __init__(self, methods: Methods, answering: Answering) -> None:
        self._methods, self._answering = methods, answering

    def __contains__(self, path: str) -> bool:
        return path in self._methods.by_path

    async def unary(self, remote: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        method = self._methods.by_path[remote.path]
        incoming = _incoming(remote, request)
        answer = self._answering.unary(method, incoming, _InProcess(timeout_s, metadata))
        task = asyncio.create_task(answer, context=Context())  # The callee sees nothing of the caller's.
        try:
            response = await task
        except Refusal as refusal:
            raise CallFailed(remote.path, refusal.status()) from refusal
        finally:
            task.cancel()
        return remote.decode(method.serialize(response))

    async def stream(
        self, remote: Outgoing, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> AsyncGenerator[Any, None]:
        method = self._methods.by_path[remote.path]
        incoming = _incoming(remote, request)
        stream = self._answering.stream(method, incoming, _InProcess(timeout_s, metadata))
        try:
            async with aclosing(stream) as responses:
                async for response in responses:
                    yield remote.decode(method.serialize(response))
        except Refusal as refusal:
            raise CallFailed(remote.path, refusal.status()) from refusal

    async def close(self) -> None:
        """Nothing is open."""


class _InProcess:
    """The transport of a call that stays in the process."""

    def __init__(self, timeout_s: float | None, metadata: Metadata) -> None:
        self._metadata = metadata
        loop = asyncio.get_running_loop()
        self._ends = None if timeout_s is None else loop.time() + timeout_s

    def metadata(self) -> Metadata:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._ends is None else max(0.0, self._ends - asyncio.get_running_loop().time())

    def peer(self) -> str:
        return "in-process"

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Stubs of the mesh show responses only."""

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Stubs of the mesh show responses only."""


def _incoming(remote: Outgoing, request: Any) -> Any:
    return _encoded(remote, request) if remote.request_streaming else remote.encode(request)


async def _encoded(remote: Outgoing, requests: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield remote.encode(request)


def _remaining(method: Remote, timeout: float | None) -> float | None:
    """The nearest of: what the caller asked, what is left of the call being answered, the bound."""
    call = current_call.get()
    bounds = [timeout, call.time_remaining() if call else None]
    if not (method.request_streaming or method.response_streaming):
        bounds.append(UNARY_S_MAX)
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known else None


def retrying() -> str:
    """A gRPC service config (gRFC A6): its channel carries idempotent methods only."""
    policy = {
        "maxAttempts": ATTEMPTS_MAX,
        "initialBackoff": f"{BACKOFF_S}s",
        "maxBackoff": f"{BACKOFF_S_MAX}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    throttling = {"maxTokens": RETRY_TOKENS, "tokenRatio": RETRY_TOKEN_RATIO}
    return json.dumps(
        {"methodConfig": [{"name": [{}], "retryPolicy": policy}], "retryThrottling": throttling}
    )


def idempotent(path: str) -> bool:
    """Whether the contract of `/service/Method` declares it so."""
    service, name = path.strip("/").split("/")
    return describe(service, name).GetOptions().idempotency_level in RETRIED
