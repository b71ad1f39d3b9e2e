"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.scheduler.delivering import Deliverer
from services.scheduler.domain.sealing import Sealer
from services.scheduler.events import Ends, Triggers
from services.scheduler.firing import Firing
from services.scheduler.hearing import Hearing
from services.scheduler.launching import Launcher
from services.scheduler.service.calendars import Calendars
from services.scheduler.service.schedules import Schedules
from services.scheduler.service.shared import Shared
from services.scheduler.service.watching import Watchers
from services.scheduler.service.webhooks import Webhooks
from services.scheduler.service.workflow_runs import WorkflowRuns
from services.scheduler.service.workflows import Workflows
from services.scheduler.settings import PREFIX, SchedulerSettings
from services.scheduler.tidying import Tidying
from weft.queue.v1.events_pb2 import JobEnded
from weft.scheduler.v1 import (
    calendar_pb2_grpc,
    schedule_pb2_grpc,
    webhook_pb2_grpc,
    workflow_pb2_grpc,
    workflow_run_pb2_grpc,
)


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(SchedulerSettings, environ, PREFIX)
    sealer = Sealer(settings.encryption_key or tools.settings.mesh_key)
    launcher = Launcher(tools.db, tools.clock, settings)
    firing = Firing(tools.db, tools.clock, settings, launcher)
    hearing = Hearing(tools.db, tools.mesh, tools.clock, settings, (firing, launcher))
    deliverer = Deliverer(tools.db, tools.clock, sealer, settings, development=tools.settings.development)
    shared = Shared(
        db=tools.db,
        clock=tools.clock,
        firing=firing,
        launcher=launcher,
        sealer=sealer,
        page_key=tools.settings.mesh_key,
        development=tools.settings.development,
    )
    return Parts(
        servicers={
            calendar_pb2_grpc.add_CalendarServiceServicer_to_server: Calendars(shared),
            schedule_pb2_grpc.add_ScheduleServiceServicer_to_server: Schedules(shared),
            webhook_pb2_grpc.add_WebhookServiceServicer_to_server: Webhooks(shared),
            workflow_pb2_grpc.add_WorkflowServiceServicer_to_server: Workflows(shared),
            workflow_run_pb2_grpc.add_WorkflowRunServiceServicer_to_server: WorkflowRuns(
                shared, Watchers(shared, tools.bus)
            ),
        },
        consumers={JobEnded: Ends(hearing).job_ended},
        loops=[
            firing.run,
            launcher.watch_deadlines,
            hearing.cancel,
            hearing.ask,
            deliverer.run,
            Tidying(tools.db, tools.clock, settings.history_days).run,
            Triggers(tools.db, tools.bus, tools.clock, launcher).run,
        ],
    )
