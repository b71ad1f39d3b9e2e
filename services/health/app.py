"""Puts the service together."""

from __future__ import annotations

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import SERVICES, Parts, Tools
from services.health import events
from services.health.alerting import Alerting
from services.health.board import Board
from services.health.controlling import Controlling, Means
from services.health.domain.plan import Plan
from services.health.looking import Looking, Monitor, Pace
from services.health.probing.edge import Edge
from services.health.probing.nats import Nats
from services.health.probing.outside import probes
from services.health.probing.postgres import Postgres
from services.health.service.health import Health
from services.health.settings import PREFIX, HealthSettings
from weft.health.v1.health_pb2_grpc import add_HealthServiceServicer_to_server
from weft.payment.v1.events_pb2 import CaptureFailed


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(HealthSettings, environ, PREFIX)
    plan, board = settings.plan(), Board(tools.bus)
    controlling = Controlling(_means(tools, settings, plan, board), settings.interval_s)
    alerting = Alerting(tools.db, tools.mesh, tools.clock, board, settings)
    servicer = Health(tools.db, tools.clock, plan, board, tools.settings.mesh_key)
    return Parts(
        servicers={add_HealthServiceServicer_to_server: servicer},
        consumers={CaptureFailed: events.captures(plan)},
        loops=[board.run, controlling.run, *([alerting.run] if settings.alert_address else [])],
        # It tells what is away from memory, so it is ready while PostgreSQL or NATS is what is away.
        checks={"database": _well, "bus": _well},
    )


def _means(tools: Tools, settings: HealthSettings, plan: Plan, board: Board) -> Means:
    edge = Edge(settings.edge_url, _services()) if settings.edge_url else None
    own: list[Monitor] = [Postgres(tools.db.dedicated), Nats(tools.bus), *([edge] if edge else [])]
    monitors = [*own, *probes(settings.probes)] if settings.monitor else []
    pace = Pace(interval_s=settings.interval_s, timeout_s=settings.timeout_s, budget_s=settings.budget_s)
    looking = Looking(monitors, pace, tools.clock, edge)
    return Means(db=tools.db, bus=tools.bus, clock=tools.clock, plan=plan, board=board, looking=looking)


def _services() -> list[str]:
    return [path.parent.name for path in SERVICES.glob("*/app.py")]


async def _well() -> None:
    """Nothing that this service needs to answer can be away."""
