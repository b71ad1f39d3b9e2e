"""Rows as messages of the wire."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.masks import etag
from services.scheduler.domain.calendar import Calendar
from services.scheduler.domain.progress import TaskRun, WorkflowRun
from services.scheduler.domain.schedule import Schedule, ScheduleRun
from services.scheduler.domain.webhook import Hook, WebhookDelivery, WebhookEndpoint
from services.scheduler.domain.workflow import Workflow, WorkflowVersion
from weft.jobs.v1.job_pb2 import EndReason
from weft.scheduler.v1 import (
    calendar_pb2,
    schedule_pb2,
    schedule_run_pb2,
    webhook_endpoint_pb2,
    webhook_pb2,
    workflow_pb2,
    workflow_run_pb2,
)


def calendar(row: Calendar) -> calendar_pb2.Calendar:
    return calendar_pb2.Calendar(
        calendar_id=str(row.calendar_id),
        settings=calendar_pb2.CalendarSettings.FromString(row.settings),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )


def schedule(row: Schedule, active: int) -> schedule_pb2.Schedule:
    return schedule_pb2.Schedule(
        schedule_id=str(row.schedule_id),
        settings=schedule_pb2.ScheduleSettings.FromString(row.settings),
        paused=row.paused,
        next_time=None if row.paused else stamp(row.next_at),
        next_fire_time=stamp(row.due_at),
        last_time=stamp(row.last_at),
        active_runs=active,
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
        etag=etag(row.revision),
    )


def run(row: ScheduleRun) -> schedule_run_pb2.ScheduleRun:
    return schedule_run_pb2.ScheduleRun(
        run_id=str(row.run_id),
        schedule_id=str(row.schedule_id),
        nominal_time=stamp(row.nominal_at),
        cause=schedule_run_pb2.RunCause.Value(f"RUN_CAUSE_{row.cause}"),
        state=schedule_run_pb2.RunState.Value(f"RUN_STATE_{row.state}"),
        reason=end_reason(row.reason),
        job_id=str(row.job_id or ""),
        workflow_run_id=str(row.workflow_run_id or ""),
        create_time=stamp(row.created_at),
        start_time=stamp(row.started_at),
        end_time=stamp(row.ended_at),
    )


def workflow(row: Workflow, version: WorkflowVersion) -> workflow_pb2.Workflow:
    return workflow_pb2.Workflow(
        workflow_id=str(row.workflow_id),
        version=version.version,
        settings=workflow_pb2.WorkflowSettings.FromString(version.settings),
        create_time=stamp(row.created_at),
        version_time=stamp(version.created_at),
        etag=etag(row.version),
    )


def workflow_run(row: WorkflowRun, tasks: Iterable[TaskRun] = ()) -> workflow_run_pb2.WorkflowRun:
    return workflow_run_pb2.WorkflowRun(
        run_id=str(row.run_id),
        workflow_id=str(row.workflow_id),
        version=row.version,
        state=workflow_run_pb2.WorkflowRunState.Value(f"WORKFLOW_RUN_STATE_{row.state}"),
        input=ParseDict(row.input, Struct()),
        cause=row.cause,
        failure=row.failure,
        create_time=stamp(row.created_at),
        end_time=stamp(row.ended_at),
        tasks=map(task_run, tasks),
    )


def task_run(row: TaskRun) -> workflow_run_pb2.TaskRun:
    return workflow_run_pb2.TaskRun(
        name=row.name,
        state=task_state(row),
        job_id=str(row.job_id or ""),
        compensation_job_id=str(row.undo_job_id or ""),
        reason=row.reason,
        output=None if row.output is None else value(row.output),
        start_time=stamp(row.started_at),
        end_time=stamp(row.ended_at),
        end_reason=end_reason(row.end_reason),
    )


def task_state(row: TaskRun) -> workflow_run_pb2.TaskState.ValueType:
    return workflow_run_pb2.TaskState.Value(f"TASK_STATE_{row.state}")


def hook(row: Hook) -> webhook_pb2.Hook:
    return webhook_pb2.Hook(
        hook_id=str(row.hook_id),
        settings=webhook_pb2.HookSettings.FromString(row.settings),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at or row.created_at),
        previous_secret_end_time=stamp(row.previous_until),
        etag=etag(row.revision),
    )


def endpoint(row: WebhookEndpoint) -> webhook_endpoint_pb2.WebhookEndpoint:
    return webhook_endpoint_pb2.WebhookEndpoint(
        endpoint_id=str(row.endpoint_id),
        settings=webhook_endpoint_pb2.WebhookEndpointSettings.FromString(row.settings),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at or row.created_at),
        previous_secret_end_time=stamp(row.previous_until),
        etag=etag(row.revision),
    )


def delivery(row: WebhookDelivery) -> webhook_endpoint_pb2.WebhookDelivery:
    return webhook_endpoint_pb2.WebhookDelivery(
        delivery_id=str(row.delivery_id),
        endpoint_id=str(row.endpoint_id),
        type=row.type,
        state=webhook_endpoint_pb2.DeliveryState.Value(f"DELIVERY_STATE_{row.state}"),
        attempts=row.attempts,
        status=row.status,
        problem=row.problem,
        create_time=stamp(row.created_at),
        next_time=stamp(row.due_at),
    )


def end_reason(name: str) -> EndReason.ValueType:
    """Reasons of our own (a job that was lost) have no name on the wire."""
    known = f"END_REASON_{name}"
    return EndReason.Value(known) if known in EndReason.keys() else EndReason.END_REASON_UNSPECIFIED  # noqa: SIM118


def value(plain: Any) -> Value:
    return ParseDict(plain, Value())


def stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed
