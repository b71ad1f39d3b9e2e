"""Jobs asked of the queue: by an event of the transaction that wants them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.db import Tx
from services.scheduler.domain.schedule import AwaitedJob
from weft.jobs.v1.job_pb2 import Payload
from weft.queue.v1.events_pb2 import JobRequested
from weft.queue.v1.spec_pb2 import JobSpec
from weft.scheduler.v1.timing_pb2 import JobTemplate

JSON = "application/json"


def requested(
    job_id: UUID, template: JobTemplate, labels: Mapping[str, str], payload: bytes | None = None
) -> JobRequested:
    """The event; `payload` is JSON, and stands for the template's own."""
    spec = JobSpec(
        job_id=str(job_id),
        type=template.type,
        queue=template.queue,
        priority=template.priority,
        key=template.key,
        labels={**template.labels, **labels},
        announce=True,
    )
    for name in ("retry", "execution_timeout", "payload"):
        if template.HasField(name):
            getattr(spec, name).CopyFrom(getattr(template, name))
    if payload is not None:
        spec.payload.CopyFrom(Payload(data=payload, content_type=JSON))
    return JobRequested(job_id=str(job_id), job=spec)


def awaits(tx: Tx, job_ids: list[UUID], now: datetime, ask_after: timedelta) -> None:
    """Notes that the ends of these jobs matter."""
    tx.add_all(
        AwaitedJob(job_id=job_id, asked_for_at=now, ask_at=now + ask_after, cancel_at=None)
        for job_id in job_ids
    )
