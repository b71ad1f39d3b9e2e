"""Answers calls: trace, deadline, access, validation, idempotency, refusals and metrics around a handler.

One path for all four kinds of rpc and for every engine. What leaves here is a response or a Refusal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar, Token
from typing import Any

import protovalidate
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2
from opentelemetry.trace import SpanKind

from services.chassis import idempotency, telemetry
from services.chassis.caller import SERVICE_HEADER, Verifier
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

UNARY_S_MAX = 60.0  # A unary call without a deadline still ends.
CALLS_MAX = 2_000  # Calls and streams one process answers at once; each costs about 30 kB.
FAULTS = {code_pb2.UNKNOWN, code_pb2.DEADLINE_EXCEEDED, code_pb2.UNIMPLEMENTED}
FAULTS |= {code_pb2.INTERNAL, code_pb2.UNAVAILABLE, code_pb2.DATA_LOSS}  # OTel: errors of the server.

log = logging.getLogger("weft.rpc")
current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
_validator = protovalidate.Validator()

Marks = list[tuple[ContextVar[Any], Token[Any]]]


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

    def __init__(self, verifier: Verifier, tracing: telemetry.Tracing, clock: Clock) -> None:
        self._verifier, self._tracing, self._clock = verifier, tracing, clock
        self._calls = 0

    async def unary(self, method: Method, request: bytes | AsyncIterator[bytes], transport: Transport) -> Any:
        """One response; `request` is a message's bytes, or an async iterator of them."""
        call = _call(method, transport)
        async with self._around(call):
            message = self._admitted(call, request)
            return await idempotency.once(call, message, lambda: method.handler(message, call))

    async def stream(
        self, method: Method, request: bytes | AsyncIterator[bytes], transport: Transport
    ) -> AsyncGenerator[Any, None]:
        """Many responses. Whoever iterates closes it (`aclosing`)."""
        call = _call(method, transport)
        async with self._around(call):
            message = self._admitted(call, request)
            async with aclosing(method.handler(message, call)) as responses:
                async for response in responses:
                    yield response

    def _admitted(self, call: Call, request: bytes | AsyncIterator[bytes]) -> Any:
        """The request, once its sender may make it and it keeps the contract's rules."""
        call.caller = self._verifier.caller(call.header("authorization"), call.header(SERVICE_HEADER))
        seen = provenance.get()
        provenance.set(Provenance(call.caller.actor, call.caller.acting, seen.trace, seen.causation))
        message = _decode(call.method, request) if isinstance(request, bytes) else None
        call.method.rule.check(call.caller, message, self._clock.now().timestamp())
        if not isinstance(request, bytes):
            return _each_checked(call.method, request)
        check(message)
        return message

    @asynccontextmanager
    async def _around(self, call: Call) -> AsyncIterator[None]:
        """What every call has around it, whatever its kind and however it ends."""
        path, began, code = call.method.path, time.perf_counter(), code_pb2.OK
        parent = self._tracing.begin(call.header("traceparent"))
        span = self._tracing.span(path.strip("/"), parent, SpanKind.SERVER)
        here = telemetry.place(span, parent)
        marks = _mark(call, here)
        self._calls += 1
        telemetry.IN_FLIGHT.inc()
        try:
            async with _refusing(call, self._calls):
                yield
        except Refusal as refusal:
            code = refusal.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = code_pb2.CANCELLED
            raise
        finally:
            self._calls -= 1
            telemetry.IN_FLIGHT.dec()
            telemetry.answered(path, code, time.perf_counter() - began)
            telemetry.end(span, path, code, code in FAULTS)
            _restore(marks)


@asynccontextmanager
async def _refusing(call: Call, calls: int) -> AsyncIterator[None]:
    """Holds the deadline, and turns whatever is raised into a Refusal."""
    if calls > CALLS_MAX:
        raise Overloaded(calls=CALLS_MAX)
    remaining = call.time_remaining()
    if remaining is None and not call.method.response_streaming:
        remaining = UNARY_S_MAX
    try:
        async with asyncio.timeout(remaining) as limit:
            yield
    except Refusal:
        raise
    except CallFailed as failed:
        raise _relayed(call, failed) from failed
    except TimeoutError as error:
        raise (OutOfTime() if limit.expired() else _bug(call)) from error
    except Exception as error:
        raise _bug(call) from error


def _relayed(call: Call, failed: CallFailed) -> Refusal:
    if failed.code in Relayed.CODES:
        return Relayed(failed)
    log.error(
        "a callee's refusal was not handled", exc_info=failed, extra={"facts": {"rpc": call.method.path}}
    )
    return Internal(trace=telemetry.current_trace.get().trace_id)


def _bug(call: Call) -> Internal:
    """Logged whole; the caller gets the trace id only."""
    log.exception("a handler failed", extra={"facts": {"rpc": call.method.path}})
    return Internal(trace=telemetry.current_trace.get().trace_id)


def _call(method: Method, transport: Transport) -> Call:
    return Call(method, transport, headers=dict(transport.metadata()))


def _mark(call: Call, here: telemetry.Trace) -> Marks:
    """Sets what code below may ask of the context."""
    came = Provenance(actor="anonymous", acting="", trace=here.trace_id, causation=None)
    values: dict[ContextVar[Any], Any] = {
        current_call: call,
        telemetry.current_trace: here,
        provenance: came,
        on_begin: None,
    }
    return [(variable, variable.set(value)) for variable, value in values.items()]


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
