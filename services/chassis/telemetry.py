"""Logs as JSON lines, metrics for Prometheus, traces by W3C trace context; names declared once.

The trace context is passed on always. Spans are made only when the trace is sampled, so a call that
is not sampled costs a header and no more.
"""

import json
import logging
import random
import secrets
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from google.rpc import code_pb2
from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from prometheus_client import Counter, Gauge, Histogram

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10, 60)
HANDLED = Counter("weft_rpc_handled", "Calls answered.", ["method", "code"])
SECONDS = Histogram("weft_rpc_seconds", "Time to the last byte of an answer.", ["method"], buckets=BUCKETS_S)
BY_CALLER = Histogram(
    "weft_rpc_by_caller_seconds",
    "The same of unary calls by who asked whom, in processes that register themselves.",
    ["caller", "service", "outcome"],
    buckets=BUCKETS_S,
)
IN_FLIGHT = Gauge("weft_rpc_in_flight", "Calls being answered.")
CALLED = Counter("weft_mesh_calls", "Calls made to other services.", ["method", "code"])
TRESPASSES = Counter(
    "weft_calls_trespassing", "Calls whose service the contract does not name.", ["caller", "rpc"]
)
LOOP_RESTARTS = Counter(
    "weft_loop_restarts", "Background loops that failed and began again.", ["service", "loop"]
)
PUBLISHED = Counter("weft_events_published", "Events that reached their stream.", ["service"])
RELAY_LAG = Gauge("weft_relay_lag_seconds", "Age of the last event when it was published.", ["service"])
EVENTS_HANDLED = Counter("weft_events_handled", "Events done or given up.", ["consumer", "outcome"])
READY = Gauge("weft_ready", "1 while all checks of a service pass.", ["service"])

EDGE, OTHERS = "edge", "others"  # Callers that are no service: whoever came by the edge; one too many.
CALLERS_MAX = 64  # Services that a process tells apart: four times what the mesh has.
OTLP_QUEUE_MAX = 2_048  # Spans that wait for export; more are dropped, never blocking a call.


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a piece of work stands in its trace (W3C Trace Context, level 1)."""

    trace_id: str = ""  # 32 hex digits; empty outside any trace.
    span_id: str = ""  # 16 hex digits.
    sampled: bool = False

    def header(self) -> str:
        """The `traceparent` to pass on."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def context(self) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED if self.sampled else TraceFlags.DEFAULT)
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), is_remote=True, trace_flags=flags)


NO_TRACE = Trace()
current_trace: ContextVar[Trace] = ContextVar("current_trace", default=NO_TRACE)


def parse_traceparent(header: str) -> Trace | None:
    """None when the header is not one; then a new trace begins (W3C §4.3)."""
    parts = header.split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2] or parts[0] == "ff":
        return None
    try:
        trace_id, span_id, flags = int(parts[1], 16), int(parts[2], 16), int(parts[3], 16)
    except ValueError:
        return None
    return Trace(parts[1], parts[2], bool(flags & 1)) if trace_id and span_id else None


class Tracing:
    """Begins traces and spans of one process."""

    def __init__(self, ratio: float, processor: SpanProcessor | None = None) -> None:
        """`processor` takes the finished spans; without one nothing is sampled here."""
        self._ratio = ratio if processor else 0.0
        self._provider = TracerProvider(resource=Resource.create({"service.name": "weft"}))
        if processor:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("weft")
        self._exports = processor is not None

    @classmethod
    def to(cls, endpoint: str, ratio: float) -> "Tracing":
        """Exports to an OTLP/gRPC collector; to nowhere when `endpoint` is empty."""
        if not endpoint:
            return cls(ratio)
        # Loading it takes a process 0.1 s, which a mesh without a collector need not spend at each start.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True)
        return cls(ratio, BatchSpanProcessor(exporter, max_queue_size=OTLP_QUEUE_MAX))

    def begin(self, traceparent: str) -> Trace:
        """The caller's place in its trace, or a new trace."""
        if traceparent and (known := parse_traceparent(traceparent)):
            return known
        sampled = self._ratio > 0 and random.random() < self._ratio
        return Trace(secrets.token_hex(16), secrets.token_hex(8), sampled)

    def span(self, name: str, parent: Trace, kind: SpanKind) -> otel.Span | None:
        """A span below `parent`; None when it is not sampled, and so costs nothing."""
        if not (parent.sampled and self._exports):
            return None
        above = otel.set_span_in_context(NonRecordingSpan(parent.context()))
        return self._tracer.start_span(name, context=above, kind=kind)

    def close(self) -> None:
        self._provider.shutdown()


def place(span: otel.Span | None, parent: Trace) -> Trace:
    """Where work inside `span` stands: what it passes on as `traceparent`."""
    if span is None:
        return parent
    context = span.get_span_context()
    return Trace(parent.trace_id, format(context.span_id, "016x"), parent.sampled)


def answered(path: str, code: int, seconds: float) -> None:
    """Counts and times a call that was answered. `path` is one of this process's methods."""
    handled, taken = _metrics_of(path, code)
    handled.inc()
    taken.observe(seconds)


def asked(caller: str, path: str, failed: bool, seconds: float) -> None:
    """Counts a unary call by who made it: a service, or nobody for a call that came by the edge."""
    if measured := _of_caller(caller or EDGE, path, failed):
        measured.observe(seconds)


def called(path: str, code: int) -> None:
    """Counts a call that was made. `path` is one that a stub names."""
    _calls_of(path, code).inc()


@cache
def _metrics_of(path: str, code: int) -> tuple[Counter, Histogram]:
    """Kept, for looking them up by their labels costs more than counting: 8 of 11 us."""
    return HANDLED.labels(path, code_pb2.Code.Name(code)), SECONDS.labels(path)


@cache
def _calls_of(path: str, code: int) -> Counter:
    """Kept, as those above."""
    return CALLED.labels(path, code_pb2.Code.Name(code))


_callers: set[str] = set()


@cache
def _of_caller(caller: str, path: str, failed: bool) -> Histogram | None:
    """Kept, as those above. None for a method of a contract that is not ours, such as health."""
    root, _, rest = path.strip("/").partition(".")
    if root != "weft":
        return None
    if len(_callers) < CALLERS_MAX:
        _callers.add(caller)
    known = caller if caller in _callers else OTHERS
    return BY_CALLER.labels(known, rest.partition(".")[0], "failed" if failed else "answered")


def end(span: otel.Span | None, path: str, code: int, failed: bool) -> None:
    """Closes a span with its outcome, named by the OpenTelemetry RPC conventions."""
    if span is None:
        return
    service, _, method = path.strip("/").rpartition("/")
    attributes: dict[str, Any] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    span.set_attributes({**attributes, "rpc.grpc.status_code": code})
    span.set_status(otel.StatusCode.ERROR if failed else otel.StatusCode.UNSET)
    span.end()


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, trace, and what `extra={"facts": …}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"at": at, "level": record.levelname, "logger": record.name}
        line["message"] = record.getMessage()
        if (trace := current_trace.get()).trace_id:
            line["trace"] = trace.trace_id
        line.update(getattr(record, "facts", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr(level: str) -> None:
    """All loggers of this process write JSON lines to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("asyncio", "nats", "mail.log", "httpx"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
