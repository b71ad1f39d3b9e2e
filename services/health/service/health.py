"""weft.health.v1.HealthService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.events import emit
from services.chassis.method import Call
from services.health.board import Board
from services.health.domain.pin import PinRow
from services.health.domain.plan import Plan
from services.health.domain.refusals import (
    PIN_MAX,
    STREAMS_MAX,
    PinOutOfRange,
    TooManyStreams,
    UnknownCapability,
)
from services.health.domain.state import Capability
from services.health.service import pack
from services.health.store import incident as incidents, pin as pins
from weft.health.v1 import health_pb2 as pb
from weft.health.v1.events_pb2 import ModePinned, ModeUnpinned
from weft.health.v1.health_pb2_grpc import HealthServiceServicer
from weft.health.v1.state_pb2 import Mode

HEARTBEAT_S = 15.0


class Health(HealthServiceServicer):
    def __init__(self, db: Database, clock: Clock, plan: Plan, board: Board, page_key: str) -> None:
        self._db, self._clock, self._plan, self._board = db, clock, plan, board
        self._page_key, self._streams = page_key, 0

    async def GetSystem(self, request: pb.GetSystemRequest, call: Call) -> pb.GetSystemResponse:
        word = self._board.word
        components = sorted(word.state.components.items())
        return pb.GetSystemResponse(
            components=[pack.of_component(name, each) for name, each in components],
            capabilities=[pack.of_capability(*each) for each in self._capabilities()],
            confirm_time=pack.moment(word.at),
        )

    def _capabilities(self) -> list[tuple[str, Capability]]:
        """All there are, by name; those that nobody has judged are normal."""
        known = self._board.word.state.capabilities
        return [(name, known.get(name, Capability())) for name in sorted(self._plan.capabilities)]

    async def WatchModes(
        self, request: pb.WatchModesRequest, call: Call
    ) -> AsyncIterator[pb.WatchModesResponse]:
        if self._streams >= STREAMS_MAX:
            raise TooManyStreams(max=STREAMS_MAX)
        self._streams += 1
        try:
            await call.send_initial_metadata(())
            told: dict[str, Capability] = {}
            beats = True
            while True:
                word = self._board.word
                for name, each in self._capabilities():
                    if request.capability in ("", name) and _other(told.get(name), each):
                        told[name] = each
                        yield pb.WatchModesResponse(capability=pack.of_capability(name, each))
                if beats:
                    yield pb.WatchModesResponse(heartbeat=pack.stamp(self._clock.now()))
                beats = await self._board.after(word, HEARTBEAT_S) is None
        finally:
            self._streams -= 1

    async def PinMode(self, request: pb.PinModeRequest, call: Call) -> pb.PinModeResponse:
        self._require(request.capability)
        now, until = self._clock.now(), request.expire_time.ToDatetime(UTC)
        if not now < until <= now + PIN_MAX:
            raise PinOutOfRange
        mode = Mode.Name(request.mode).removeprefix("MODE_")
        async with self._db.transaction() as tx:
            row = await pins.find(tx, request.capability)
            asked = (mode, until, request.reason)
            if row is None:
                row = PinRow(capability=request.capability, created_at=now)
                tx.add(row)
            elif (row.mode, row.until, row.reason) == asked:
                return pb.PinModeResponse(pin=pack.of_pin(row))
            row.mode, row.until, row.reason = asked
            pinned = ModePinned(
                capability=request.capability, mode=request.mode, expire_time=request.expire_time
            )
            await emit(tx, pinned)
        return pb.PinModeResponse(pin=pack.of_pin(row))

    async def UnpinMode(self, request: pb.UnpinModeRequest, call: Call) -> pb.UnpinModeResponse:
        self._require(request.capability)
        async with self._db.transaction() as tx:
            row = await pins.find(tx, request.capability)
            if row is not None:
                await tx.delete(row)
                await emit(tx, ModeUnpinned(capability=request.capability))
        return pb.UnpinModeResponse()

    def _require(self, capability: str) -> None:
        """Raises UnknownCapability."""
        if capability not in self._plan.capabilities:
            raise UnknownCapability(capability=capability)

    async def GetIncident(self, request: pb.GetIncidentRequest, call: Call) -> pb.GetIncidentResponse:
        incident_id = UUID(request.incident_id)
        async with self._db.transaction() as tx:
            row = await incidents.get(tx, incident_id)
            captures = await incidents.captures(tx, [incident_id])
        return pb.GetIncidentResponse(incident=pack.of_incident(row, captures.get(incident_id, ())))

    async def ListIncidents(self, request: pb.ListIncidentsRequest, call: Call) -> pb.ListIncidentsResponse:
        page = incidents.INCIDENTS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await incidents.page(tx, page)
            captures = await incidents.captures(tx, [row.incident_id for row in rows])
        found = [pack.of_incident(row, captures.get(row.incident_id, ())) for row in rows]
        return pb.ListIncidentsResponse(incidents=found, next_page_token=token)


def _other(told: Capability | None, now: Capability) -> bool:
    """Whether a watcher is told: of another mode, or of a pin."""
    return told is None or (told.mode, told.pinned_until) != (now.mode, now.pinned_until)
