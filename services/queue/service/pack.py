"""Between messages and rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.masks import etag
from services.queue.domain.queue import Queue, lanes_of
from services.queue.domain.routing import Rule
from weft.jobs.v1.attempt_pb2 import AttemptReport
from weft.jobs.v1.job_pb2 import Envelope, RetryPolicy
from weft.queue.v1 import queue_pb2 as pb, settings_pb2

DAY_S = 86_400


def stamp(at: datetime | float | None) -> Timestamp | None:
    """None stays none: the field is absent."""
    if at is None:
        return None
    made = Timestamp()
    if isinstance(at, datetime):
        made.FromDatetime(at)
    else:
        made.FromNanoseconds(int(at * 1e9))
    return made


def moment(at: Timestamp) -> datetime:
    made: datetime = at.ToDatetime(tzinfo=UTC)
    return made


def unix_s(at: Timestamp) -> float:
    return float(at.seconds + at.nanos / 1e9)


def span(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def seconds(duration: Duration) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def in_force(kind: int, given: settings_pb2.QueueSettings) -> settings_pb2.QueueSettings:
    """The settings with nothing absent that has a default."""
    made = settings_pb2.QueueSettings()
    made.CopyFrom(given)
    _fill(made.priorities, high_weight=16, medium_weight=4, low_weight=1, climb_after=60)
    _fill(made.retry, attempts_max=5, backoff=1, backoff_max=600, multiplier=2.0)
    if not made.retry.HasField("jitter"):
        made.retry.jitter = 0.2
    _fill(made, execution_timeout=900, retention=30 * DAY_S)
    _fill(made.dead_letters, retention=90 * DAY_S)
    if made.HasField("rate"):
        _fill(made.rate, interval=1, burst=made.rate.starts)
    made.concurrency.SetInParent()
    if kind == settings_pb2.QUEUE_KIND_FIFO:
        made.concurrency.per_key = 1
    made.lanes = lanes_of(kind, made.concurrency.per_key, made.lanes)
    return made


def _fill(message: Any, **defaults: float) -> None:
    """Sets fields that are absent; durations are given in seconds."""
    message.SetInParent()
    for name, value in defaults.items():
        if message.DESCRIPTOR.fields_by_name[name].message_type:
            if not seconds(getattr(message, name)):
                getattr(message, name).CopyFrom(span(value))
        elif not getattr(message, name):
            setattr(message, name, value)


def settings_to_json(settings: settings_pb2.QueueSettings) -> dict[str, Any]:
    plain: dict[str, Any] = MessageToDict(settings)
    return plain


def settings_from_json(plain: dict[str, Any]) -> settings_pb2.QueueSettings:
    return ParseDict(plain, settings_pb2.QueueSettings(), ignore_unknown_fields=True)


def queue_to_pb(row: Queue) -> pb.Queue:
    return pb.Queue(
        queue=row.queue,
        kind=cast("settings_pb2.QueueKind.ValueType", row.kind),
        settings=settings_from_json(row.settings),
        state=cast("settings_pb2.QueueState.ValueType", row.state),
        note=row.note,
        keyed=row.keyed,
        create_time=stamp(row.create_time),
        update_time=stamp(row.update_time),
        etag=etag(row.revision),
        purged_sequence=row.purged_sequence,
    )


def rules_to_json(rules: Iterable[settings_pb2.RoutingRule]) -> list[dict[str, Any]]:
    return [MessageToDict(rule) for rule in rules]


def routing_to_pb(row: Any) -> settings_pb2.Routing:
    rules = [ParseDict(rule, settings_pb2.RoutingRule(), ignore_unknown_fields=True) for rule in row.rules]
    return settings_pb2.Routing(rules=rules, update_time=stamp(row.update_time), etag=etag(row.revision))


def rule_from_pb(rule: settings_pb2.RoutingRule) -> Rule:
    return Rule(
        name=rule.name,
        condition=rule.condition,
        disabled=rule.disabled,
        queue=rule.queue,
        priority=rule.priority,
        delay_s=seconds(rule.delay),
    )


def merged(own: RetryPolicy, queues: RetryPolicy) -> RetryPolicy:
    """A job's own policy, and where that is silent its queue's."""
    made = RetryPolicy()
    made.CopyFrom(queues)
    made.MergeFrom(own)
    return made


def source_envelope(row: Any, now: datetime) -> Envelope:
    """The message of a job's current run, as it is published anew."""
    envelope = Envelope.FromString(row["envelope"])
    envelope.run, envelope.attempt = row["run"], row["attempt"]
    if row["priority"]:
        envelope.priority = row["priority"]
    envelope.ClearField("due_time")
    if row["due_at"] and row["due_at"] > now:
        envelope.due_time.FromDatetime(row["due_at"])
    if row["run"] > 1:
        envelope.ClearField("expire_time")
    return envelope


def report_from(row: Any) -> AttemptReport:
    """What a run's end says: its columns, and what was kept of the report besides."""
    report = AttemptReport(
        job_id=str(row["job_id"]),
        run=row["run"],
        attempt=row["attempt"],
        queue=row["queue"],
        type=row["type"],
        outcome=OUTCOMES[row["state"]],
        reason=row["reason"],
        start_time=stamp(row["start_at"]),
        end_time=stamp(row["end_at"]),
    )
    if row["report"]:
        report.MergeFromString(row["report"])
    return report


# Outcome by final state: weft.jobs.v1.AttemptOutcome, JobState.
OUTCOMES: dict[int, Any] = {6: 1, 7: 3, 8: 4, 9: 5}


def uuid_or_none(text: str) -> UUID | None:
    return UUID(text) if text else None
