"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.chassis.jobs.streams import ensure_streams
from services.queue.service.auditing import Audit
from services.queue.service.dead_letters import DeadLetters
from services.queue.service.ending import Endings
from services.queue.service.groups import Groups
from services.queue.service.history import History
from services.queue.service.intake import Intake
from services.queue.service.jobs import Jobs
from services.queue.service.known import Known
from services.queue.service.publishing import Publication
from services.queue.service.queues import Queues
from services.queue.service.reaping import reaper
from services.queue.service.records import Records
from services.queue.service.requests import taking_in
from services.queue.service.running import Running
from services.queue.service.shared import Shared
from services.queue.service.stats import Stats
from services.queue.service.steering import Steering
from services.queue.service.tallying import Tally
from services.queue.service.upkeep import Upkeep, ensure_days
from services.queue.service.wire import Wire
from services.queue.settings import QueueServiceSettings
from services.queue.store.days import Days
from weft.queue.v1.dead_letter_pb2_grpc import add_DeadLetterServiceServicer_to_server
from weft.queue.v1.events_pb2 import JobRequested
from weft.queue.v1.group_pb2_grpc import add_GroupServiceServicer_to_server
from weft.queue.v1.job_pb2_grpc import add_JobServiceServicer_to_server
from weft.queue.v1.queue_pb2_grpc import add_QueueServiceServicer_to_server
from weft.queue.v1.record_pb2_grpc import add_RecordServiceServicer_to_server
from weft.queue.v1.stats_pb2_grpc import add_StatsServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(QueueServiceSettings, environ, prefix="WEFT_QUEUE_")
    shared = _share(tools, settings)
    steering = Steering(shared)
    queues, stats = Queues(shared, steering), Stats(shared)

    async def prepare() -> None:
        await ensure_days(tools, shared.days)
        await ensure_streams(tools.bus)
        await shared.wire.open()
        await queues.ensure_default()

    return Parts(
        servicers={
            add_QueueServiceServicer_to_server: queues,
            add_JobServiceServicer_to_server: Jobs(shared, steering),
            add_GroupServiceServicer_to_server: Groups(shared),
            add_DeadLetterServiceServicer_to_server: DeadLetters(shared, steering),
            add_StatsServiceServicer_to_server: stats,
            add_RecordServiceServicer_to_server: Records(shared),
        },
        consumers={JobRequested: taking_in(shared)},
        loops=[
            shared.wire.hold,
            shared.known.run,
            shared.running.run,
            shared.publication.run,
            shared.publication.reconcile,
            shared.endings.sweep,
            shared.endings.remove,
            shared.tally.run,
            History(tools, shared.wire, shared.known, shared.tally).run,
            Upkeep(shared, steering).run,
            Audit(shared).run,
            reaper(shared).run,
            stats.watch,
        ],
        starts=[prepare],
    )


def _share(tools: Tools, settings: QueueServiceSettings) -> Shared:
    wire, days, tally = Wire(tools), Days(tools.db), Tally(tools)
    known, running = Known(tools, days), Running(wire, tools.clock)
    publication = Publication(tools, settings, wire, known)
    endings = Endings(tools, known, wire, publication.soon)
    return Shared(
        tools=tools,
        settings=settings,
        known=known,
        days=days,
        wire=wire,
        running=running,
        publication=publication,
        endings=endings,
        intake=Intake(tools, known, publication, endings, running),
        tally=tally,
    )
