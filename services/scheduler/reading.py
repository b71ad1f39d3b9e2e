"""Messages of the wire as the domain knows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from services.scheduler.domain import calendar as calendars, expression
from services.scheduler.domain.calendar import Calendar, Days
from services.scheduler.domain.schedule import (
    BARE_TEMPLATE_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    TEMPLATE_BYTES_MAX,
    ActionRefused,
    CatchUp,
    Overlap as RunOverlap,
    Policy,
)
from services.scheduler.domain.timing import Kind as TimingKind, OnClosed, Timing
from services.scheduler.domain.workflow import Definition, Kind, Rule, Task, Trigger, Work
from services.scheduler.domain.zoned import Gap, Overlap, zone
from weft.scheduler.v1 import calendar_pb2, schedule_pb2, timing_pb2, workflow_pb2

CATCH_UP, QUEUED, LATE_AFTER = 10, 10, timedelta(seconds=60)  # What absence means, as the contract has it.
WORKFLOW_TIMEOUT = timedelta(days=30)
VERSIONS_CACHED_MAX = 200  # Definitions a process keeps, about 20 kB each: a version never changes.
KINDS = {"cron": TimingKind.CRON, "every": TimingKind.INTERVAL, "at": TimingKind.ONCE}
GAPS = {timing_pb2.GAP_POLICY_SKIP: Gap.SKIP}
OVERLAPS = {timing_pb2.REPEAT_POLICY_SECOND: Overlap.SECOND, timing_pb2.REPEAT_POLICY_BOTH: Overlap.BOTH}


def timing(wire: timing_pb2.Timing, anchor: datetime, days: Days | None) -> Timing:
    """`anchor` is what intervals count from if nothing else is said. Raises UnknownTimeZone."""
    kind = wire.WhichOneof("rule")
    starts_at = moment(wire, "start_time")
    if kind == "at":
        anchor = wire.at.ToDatetime(UTC)
    return Timing(
        kind=KINDS.get(kind or "", TimingKind.RECURRENCE),
        text=wire.cron or wire.recurrence,
        every=span(wire.every),
        anchor=anchor if kind == "at" else starts_at or anchor,
        tz=zone(wire.time_zone),
        gap=GAPS.get(wire.gap, Gap.SHIFT),
        overlap=OVERLAPS.get(wire.repeat, Overlap.FIRST),
        starts_at=starts_at,
        ends_at=moment(wire, "end_time"),
        open=days.open if days else None,
        on_closed=OnClosed(_name(timing_pb2.ClosedDayPolicy, wire.on_closed_day, "SKIP")),
    )


def policy(settings: schedule_pb2.ScheduleSettings) -> Policy:
    return Policy(
        jitter=span(settings.timing.jitter),
        catch_up=CatchUp(_name(schedule_pb2.CatchUpPolicy, settings.catch_up, "SKIP")),
        catch_up_max=settings.catch_up_max or CATCH_UP,
        late_after=span(settings.late_after) if settings.HasField("late_after") else LATE_AFTER,
        overlap=RunOverlap(_name(schedule_pb2.OverlapPolicy, settings.overlap, "ALLOW")),
        queue_max=settings.queue_max or QUEUED,
    )


def check_action(settings: schedule_pb2.ScheduleSettings) -> None:
    """Raises ActionRefused."""
    if problem := template_problem(settings.job, bare=False):
        raise ActionRefused(problem=problem, field="settings.job")
    if settings.workflow.input.ByteSize() > PAYLOAD_BYTES_MAX:
        problem = f"the input has more than {PAYLOAD_BYTES_MAX} bytes"
        raise ActionRefused(problem=problem, field="settings.workflow.input")


def template_problem(job: timing_pb2.JobTemplate, *, bare: bool) -> str:
    """Why it may not fit into an event; empty when it does. `bare`: inputs come beside it."""
    if len(job.payload.data) > PAYLOAD_BYTES_MAX:
        return f"the payload has more than {PAYLOAD_BYTES_MAX} bytes"
    most = BARE_TEMPLATE_BYTES_MAX if bare else TEMPLATE_BYTES_MAX
    return f"the job has more than {most} bytes" if job.ByteSize() > most else ""


def days(row: Calendar | None) -> Days | None:
    return _days(row.settings) if row else None


@lru_cache(maxsize=VERSIONS_CACHED_MAX)
def _days(settings: bytes) -> Days:
    return days_of(calendar_pb2.CalendarSettings.FromString(settings))


def days_of(settings: calendar_pb2.CalendarSettings) -> Days:
    """Raises CalendarRefused."""
    closed = {calendars.day(each.date, "settings.closed_days"): each.reason for each in settings.closed_days}
    return Days(
        closed_weekdays=frozenset(settings.closed_weekdays),
        country=settings.country,
        subdivision=settings.subdivision,
        closed=closed,
        opened=frozenset(calendars.day(each, "settings.open_days") for each in settings.open_days),
    )


@lru_cache(maxsize=VERSIONS_CACHED_MAX)
def definition(settings: bytes) -> Definition:
    """Of a version that was kept."""
    return definition_of(workflow_pb2.WorkflowSettings.FromString(settings))


def definition_of(settings: workflow_pb2.WorkflowSettings) -> Definition:
    inputs = {name: (_kind(each.type), each.required) for name, each in settings.inputs.items()}
    return Definition(
        tasks=[_task(each) for each in settings.tasks],
        inputs=inputs,
        timeout=span(settings.timeout) or WORKFLOW_TIMEOUT,
        triggers=[
            Trigger(event_type=each.event_type, filter=each.filter, inputs=dict(each.inputs))
            for each in settings.triggers
        ],
    )


def _task(wire: workflow_pb2.Task) -> Task:
    undo = wire.compensation if wire.HasField("compensation") else None
    return Task(
        name=wire.name,
        work=_work(wire),
        job_type=wire.job.type,
        needs=tuple(wire.needs),
        rule=Rule(_name(workflow_pb2.StartRule, wire.when, "ALL_SUCCEEDED")),
        condition=wire.condition,
        outputs={name: _kind(kind) for name, kind in wire.outputs.items()},
        timeout=span(wire.timeout) or None,
        undo=_work(undo) if undo else None,
    )


def _work(wire: workflow_pb2.Task | workflow_pb2.Compensation) -> Work:
    return Work(
        job=wire.job.SerializeToString(deterministic=True),
        inputs=dict(sorted(wire.inputs.items())),
        fixed=wire.job.HasField("payload"),
    )


def _kind(value: workflow_pb2.ValueType.ValueType) -> Kind:
    return Kind(_name(workflow_pb2.ValueType, int(value), "ANY"))


def _name(enum: Any, value: int, absent: str) -> str:
    """A value's name without its enum's prefix."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return enum.Name(value).removeprefix(prefix) if value else absent


def json_of(given: Struct) -> dict[str, Any]:
    made: dict[str, Any] = expression.plain(MessageToDict(given))
    return made


def span(wire: Duration) -> timedelta:
    return wire.ToTimedelta()


def moment(wire: Any, field: str) -> datetime | None:
    """None: the field is absent."""
    if not wire.HasField(field):
        return None
    stamp: Timestamp = getattr(wire, field)
    return stamp.ToDatetime(UTC)


def checked_mapping(expressions: Mapping[str, str], names: set[str], field: str) -> None:
    """Raises ExpressionRefused."""
    for name, text in expressions.items():
        expression.check(text, names, f"{field}[{name}]")
