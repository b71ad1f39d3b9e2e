"""Answers calls: trace, deadline, access, validation, idempotency, refusals and metrics around a handler.

One path for all four kinds of rpc and for every engine. What leaves here is a response or a Refusal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from contextvars import ContextVar, Token
from typing import Any

import protovalidate
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2
from opentelemetry.trace import SpanKind

from services.chassis import idempotency, telemetry
from services.chassis.caller import SERVICE_HEADER, NotACaller, Verifier
from services.chassis.clock import Clock
from services.chassis.db import on_begin
from services.chassis.errors import (
    CallFailed,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Refusal,
    Relayed,
    Unavailable,
)
from services.chassis.events import Provenance, provenance
from services.chassis.method import Call, Method, Transport
from services.chassis.modes import Modes
from services.chassis.trespass import Trespasses

UNARY_S_MAX = 60.0  # A unary call without a deadline still ends.
CALLS_MAX = 2_000  # Calls and streams one process answers at once; each costs about 30 kB.
FAULTS = {code_pb2.UNKNOWN, code_pb2.DEADLINE_EXCEEDED, code_pb2.UNIMPLEMENTED}
FAULTS |= {code_pb2.INTERNAL, code_pb2.UNAVAILABLE, code_pb2.DATA_LOSS}  # OTel: errors of the server.

log = logging.getLogger("weft.rpc")
current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
_validator = protovalidate.Validator()

Marks = tuple[tuple[ContextVar[Any], Token[Any]], ...]


class Malformed(InvalidArgument):
    """The request breaks the contract: {first}"""

    def __init__(self, violations: list[protovalidate.Violation]) -> None:
        self._fields = [_field_violation(violation) for violation in violations]
        first = self._fields[0]
        super().__init__(first=f"{first.field}: {first.description}" if first.field else first.description)

    def violations(self) -> list[error_details_pb2.BadRequest.FieldViolation]:
        return self._fields


class Undecodable(InvalidArgument):
    """The request is not a {type} in the protobuf wire format."""


class OutOfTime(DeadlineExceeded):
    """The call's deadline passed before it was answered."""


class Overloaded(Unavailable):
    """This process answers {calls} calls already."""


class Answering:
    """Runs handlers for one process."""

    def __init__(
        self,
        verifier: Verifier,
        tracing: telemetry.Tracing,
        clock: Clock,
        *,
        modes: Modes | None = None,
        by_caller: bool = False,
    ) -> None:
        """`by_caller`: what each service asked is counted apart, for the graph of calls."""
        self._verifier, self._clock, self.modes = verifier, clock, modes or Modes(clock)
        self.tracing, self.calls, self.by_caller = tracing, 0, by_caller
        self.trespasses = Trespasses(clock)
        telemetry.IN_FLIGHT.set_function(lambda: self.calls)

    async def unary(self, method: Method, request: bytes | AsyncIterator[bytes], transport: Transport) -> Any:
        """One response; `request` is a message's bytes, or an async iterator of them."""
        with _Around(self, method, transport) as around:
            async with around.limit():
                call, message = around.call, self._admitted(around.call, request)
                return await idempotency.once(call, message, lambda: method.handler(message, call))

    async def stream(
        self, method: Method, request: bytes | AsyncIterator[bytes], transport: Transport
    ) -> AsyncGenerator[Any, None]:
        """Many responses. Whoever iterates closes it (`aclosing`)."""
        with _Around(self, method, transport) as around:
            async with around.limit():
                message = self._admitted(around.call, request)
                async with aclosing(method.handler(message, around.call)) as responses:
                    async for response in responses:
                        yield response

    def _admitted(self, call: Call, request: bytes | AsyncIterator[bytes]) -> Any:
        """The request, once its sender may make it and it keeps the contract's rules."""
        call.caller = self._verifier.caller(call.header("authorization"), call.header(SERVICE_HEADER))
        seen = provenance.get()
        provenance.set(Provenance(call.caller.actor, call.caller.acting, seen.trace, seen.causation))
        message = _decode(call.method, request) if isinstance(request, bytes) else None
        try:
            call.method.rule.check(call.caller, message, self._clock.epoch())
        except NotACaller:
            self.trespasses.note(call.caller.via, call.method.path)
            raise
        if not isinstance(request, bytes):
            return _each_checked(call.method, request)
        check(message)
        return message


class _Around:
    """What every call has around it, whatever its kind and however it ends.

    A class, for two nested `asynccontextmanager`s cost each call 15 us, a third of all the chassis does.
    """

    __slots__ = ("_answering", "_began", "_limit", "_marks", "_span", "call")

    def __init__(self, answering: Answering, method: Method, transport: Transport) -> None:
        self._answering, self._limit = answering, _NO_LIMIT
        self.call = Call(method, transport, headers=dict(transport.metadata()))

    def __enter__(self) -> _Around:
        self._began = time.perf_counter()
        tracing = self._answering.tracing
        parent = tracing.begin(self.call.header("traceparent"))
        self._span = tracing.span(self.call.method.path.strip("/"), parent, SpanKind.SERVER)
        self._marks = _mark(self.call, telemetry.place(self._span, parent))
        self._answering.calls += 1
        return self

    def limit(self) -> asyncio.Timeout:
        """The call's deadline. Raises Overloaded, Shed."""
        if self._answering.calls > CALLS_MAX:
            raise Overloaded(calls=CALLS_MAX)
        if self._answering.modes.sheds:
            self._answering.modes.admit(self.call.method)
        remaining, method = self.call.time_remaining(), self.call.method
        if remaining is None and not (method.request_streaming or method.response_streaming):
            remaining = UNARY_S_MAX
        self._limit = asyncio.timeout(remaining)
        return self._limit

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Counts the call. Whatever was raised leaves as a Refusal, save cancellation."""
        refusal = self._refusal(error) if isinstance(error, Exception) else None
        code = refusal.code if refusal else code_pb2.OK if error is None else code_pb2.CANCELLED
        path, seconds = self.call.method.path, time.perf_counter() - self._began
        self._answering.calls -= 1
        telemetry.answered(path, code, seconds)
        if self._answering.by_caller and not (
            self.call.method.request_streaming or self.call.method.response_streaming
        ):
            telemetry.asked(self.call.caller.via, path, code in FAULTS, seconds)
        telemetry.end(self._span, path, code, code in FAULTS)
        _restore(self._marks)
        if refusal is not None and refusal is not error:
            raise refusal from error

    def _refusal(self, error: Exception) -> Refusal:
        if isinstance(error, Refusal):
            return error
        if isinstance(error, CallFailed) and error.code in Relayed.CODES:
            return Relayed(error)
        if isinstance(error, TimeoutError) and self._limit.expired():
            return OutOfTime()
        what = "a callee's refusal was not handled" if isinstance(error, CallFailed) else "a handler failed"
        log.error(what, exc_info=error, extra={"facts": {"rpc": self.call.method.path}})
        return Internal(trace=telemetry.current_trace.get().trace_id)  # The log has the rest.


_NO_LIMIT = asyncio.Timeout(None)


def _mark(call: Call, here: telemetry.Trace) -> Marks:
    """Sets what code below may ask of the context."""
    came = Provenance(actor="anonymous", acting="", trace=here.trace_id, causation=None)
    return (
        (current_call, current_call.set(call)),
        (telemetry.current_trace, telemetry.current_trace.set(here)),
        (provenance, provenance.set(came)),
        (on_begin, on_begin.set(None)),
    )


def _restore(marks: Marks) -> None:
    """Puts the context back. A stream dropped half-read ends in another context, which has none."""
    for variable, mark in marks:
        try:
            variable.reset(mark)
        except ValueError:
            return


async def _each_checked(method: Method, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for request in requests:
        message = _decode(method, request)
        check(message)
        yield message


def _decode(method: Method, request: bytes) -> Any:
    try:
        return method.deserialize(request)
    except DecodeError as error:
        raise Undecodable(type=method.request) from error


def check(message: Any) -> None:
    """Raises Malformed, naming each field and the rule (buf.validate) it breaks."""
    if violations := _validator.collect_violations(message):
        raise Malformed(violations)


def _field_violation(violation: protovalidate.Violation) -> error_details_pb2.BadRequest.FieldViolation:
    proto = violation.proto
    path = ".".join(_element(element) for element in (proto.field.elements if proto.field else ()))
    return error_details_pb2.BadRequest.FieldViolation(
        field=path, description=proto.message or proto.rule_id, reason=proto.rule_id
    )


def _element(element: Any) -> str:
    """`lines[3]`, `labels["a"]`, `name`."""
    if element.subscript is None:
        return str(element.field_name)
    return f"{element.field_name}[{json.dumps(element.subscript.value)}]"
