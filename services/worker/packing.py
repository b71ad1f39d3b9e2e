"""How attempts ended, as the queue is told: in columns where they ended well, else one by one.

Columns are cheap on both sides: what jobs of a kind share is said once, and nobody makes an object of each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from services.worker.delivery import Delivery
from services.worker.ending import RETRYING, SUCCEEDED, Ending, Verdict
from services.worker.holding import Handle
from weft.jobs.v1.attempt_pb2 import AttemptReport, Successes
from weft.jobs.v1.job_pb2 import Payload
from weft.queue.v1.record_pb2 import ReportAttemptsRequest

ID_CHARS, ID_BYTES = 36, 16
HYPHENS = (8, 13, 18, 23)  # Where an id has one, in the only form that the mesh makes (RFC 9562 section 4).
ROW_BYTES = 40  # Of an attempt in columns: its id, and three times.
REPORT_BYTES = 300  # Of one by itself, without what varies.

Kind = tuple[Any, ...]


class Ended(NamedTuple):
    """One attempt that is to be told of."""

    delivery: Delivery
    ending: Ending
    verdict: Verdict

    @property
    def handle(self) -> Handle:
        handle: Handle = self.delivery.handle
        return handle

    @property
    def bytes(self) -> int:
        """About so many in a report."""
        ending = self.ending
        if not ending.lines and ending.failure is None:
            return ROW_BYTES + len(ending.result)
        trace = len(ending.failure.trace) if ending.failure else 0
        lines = sum(len(line.message) + 100 for line in ending.lines)
        return REPORT_BYTES + len(ending.result) + lines + trace


def packed(group: Sequence[Ended], worker: str) -> tuple[ReportAttemptsRequest, list[Ended]]:
    """The report, and its attempts in the order of their positions in it."""
    alone: list[Ended] = []
    kinds: dict[Kind, list[Ended]] = {}
    for ended in group:
        if ended.verdict.outcome == SUCCEEDED and not ended.ending.lines:
            kinds.setdefault(_kind(ended), []).append(ended)
        else:
            alone.append(ended)
    columns = list[Successes]()
    together = list[Ended]()
    for alike in kinds.values():
        if (made := _columns(alike)) is not None:
            columns.append(made)
            together += alike
        else:
            alone += alike
    request = ReportAttemptsRequest(worker=worker, attempts=map(_report, alone), successes=columns)
    return request, alone + together


def _kind(ended: Ended) -> Kind:
    """What must be equal for attempts to be told of together."""
    delivery, handle = ended.delivery, ended.handle
    envelope = delivery.envelope
    labels = envelope.labels
    return (
        delivery.queue,
        delivery.type,
        envelope.priority,
        delivery.run,
        envelope.attempt,
        envelope.group_id,
        envelope.unique,
        envelope.announce,
        tuple(sorted(labels.items())) if labels else (),
        handle.lane,
        handle.epoch,
        ended.ending.result_type if ended.ending.result else "",
        bool(ended.ending.result),
    )


def _columns(alike: Sequence[Ended]) -> Successes | None:
    """None when an id among them is not written as ids are."""
    job_ids = ids([ended.delivery.job_id for ended in alike])
    if job_ids is None:
        return None
    queue, kind, priority, run, attempt, group_id, unique, announce, labels, lane, epoch, media, has = _kind(
        alike[0]
    )
    made = Successes(
        queue=queue,
        type=kind,
        priority=priority,
        run=run,
        attempt=attempt,
        group_id=group_id,
        unique=unique,
        announce=announce,
        labels=dict(labels),
        job_ids=job_ids,
        due_s=[ended.delivery.due_s for ended in alike],
        start_s=[ended.ending.start_s for ended in alike],
        end_s=[ended.ending.end_s for ended in alike],
    )
    if lane is not None:
        made.lane, made.lane_epoch = lane, epoch
    if has:
        made.results.extend(ended.ending.result for ended in alike)
        made.result_type = media
    return made


def ids(texts: Sequence[str]) -> bytes | None:
    """16 bytes of each; None when one of them is not written as ids are. Checked all at once."""
    count, joined = len(texts), "".join(texts)
    if len(joined) != ID_CHARS * count or any(joined[n::ID_CHARS] != "-" * count for n in HYPHENS):
        return None
    try:
        raw = bytes.fromhex(joined.replace("-", ""))
    except ValueError:
        return None
    return raw if len(raw) == ID_BYTES * count else None


def _report(ended: Ended) -> AttemptReport:
    delivery, ending, verdict = ended
    envelope, handle = delivery.envelope, ended.handle
    report = AttemptReport(
        job_id=delivery.job_id,
        run=delivery.run,
        attempt=envelope.attempt,
        queue=delivery.queue,
        type=delivery.type,
        priority=envelope.priority,
        group_id=envelope.group_id,
        unique=envelope.unique,
        announce=envelope.announce,
        outcome=verdict.outcome,
        reason=verdict.reason,
        failure=ending.failure,
        due_time=stamp(delivery.due_s),
        end_time=stamp(ending.end_s or time.time()),
        sequence=handle.message.sequence,
    )
    if ending.start_s:
        report.start_time.CopyFrom(stamp(ending.start_s))
    if verdict.outcome == RETRYING:
        report.next_time.CopyFrom(next_time(ended))
    if ending.result:
        report.result.CopyFrom(Payload(data=ending.result, content_type=ending.result_type))
    if handle.lane is not None:
        report.lane, report.lane_epoch = handle.lane, handle.epoch
    if ending.lines:
        report.log.extend(ending.lines)
    if envelope.labels:
        report.labels.update(envelope.labels)
    return report


def next_time(ended: Ended) -> Timestamp:
    """When its next attempt is due."""
    return stamp((ended.ending.end_s or time.time()) + ended.verdict.delay_s)


def stamp(seconds: float) -> Timestamp:
    """From Unix seconds."""
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))
