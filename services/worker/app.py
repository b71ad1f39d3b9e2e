"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.chassis.jobs.queues import Queues
from services.worker.crew import Crews
from services.worker.directory import Directory
from services.worker.managing import Manager
from services.worker.service import Workers
from services.worker.settings import WorkerSettings
from weft.worker.v1.worker_pb2_grpc import add_WorkerServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(WorkerSettings, environ, prefix="WEFT_WORKER_")
    directory, queues = Directory(tools.bus), Queues(tools.mesh)
    crews = Crews(tools.bus, directory, settings) if settings.local else None
    manager = Manager(tools, queues, crews, settings.scale_every_s)
    return Parts(
        servicers={
            add_WorkerServiceServicer_to_server: Workers(
                tools, settings, directory, manager.seen, manager.hint
            )
        },
        loops=[directory.run, queues.run, manager.run],
    )
