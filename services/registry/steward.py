"""Ends faults whose time is over, and moves rollouts on, by one process at a time.

A round that was not committed is made again from what Envoys have counted until then, so nothing is lost or
counted twice wherever it is interrupted. Time counts only while somebody watches: after an outage of the
registry a step is as old as before.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.events import emit
from services.registry.domain.figures import Reading
from services.registry.domain.rollout import Action
from services.registry.domain.rollout_state import GOING
from services.registry.envoys import Figures
from services.registry.service import shares
from services.registry.service.moving import Moving
from services.registry.store import fault as faults, rollout as rollouts, state
from weft.registry.v1.events_pb2 import FaultEnded
from weft.registry.v1.rollout_pb2 import RolloutSettings

LOOK_EVERY_S = 1.0  # How much longer than its time a fault lasts at the most.
PASSED_S_MAX = 5.0  # Longer than that nobody watched, as a process that was paused.

log = logging.getLogger("weft.registry")


class Steward:
    """One in each process; one of them works."""

    def __init__(self, db: Database, clock: Clock, figures: Figures) -> None:
        self._db, self._clock, self._figures = db, clock, figures

    async def run(self) -> None:
        """For ever."""
        async with self._db.leases.hold("steward") as lease:
            last = self._clock.monotonic()
            while True:
                await self._clock.sleep(LOOK_EVERY_S)
                lease.check()
                now = self._clock.monotonic()
                await self.round(min(now - last, PASSED_S_MAX))
                last = now

    async def round(self, passed_s: float) -> None:
        """Once; `passed_s` is how long it has been watched since the last."""
        if await faults.any_over(self._db):
            await self._end_faults()
        going = await rollouts.on_their_way(self._db)
        read = await asyncio.gather(*map(self._read, going))
        for row, readings in zip(going, read, strict=True):
            await self._move(row["rollout_id"], readings, passed_s)

    async def _end_faults(self) -> None:
        async with self._db.transaction() as tx:
            order = await state.locked(tx)
            rows = await faults.over(tx)
            if rows:
                order.next()
            ended = [
                FaultEnded(fault_id=str(row.fault_id), service=row.service, by_itself=True) for row in rows
            ]
            await emit(tx, *ended)

    async def _read(self, row: Any) -> list[Reading]:
        given = RolloutSettings.FromString(row["settings"])
        versions = (given.stable_version, given.canary_version)
        return await self._figures.read(row["service"], versions, given.slow_calls.over_ms)

    async def _move(self, rollout_id: UUID, readings: list[Reading], passed_s: float) -> None:
        async with self._db.transaction() as tx:
            order = await state.locked(tx)
            row = await rollouts.get(tx, rollout_id)
            if row.state not in GOING:
                return
            change = shares.Change(tx, order, self._clock.now())
            decision = await Moving(change, row).look(readings, passed_s)
        if decision.action is not Action.STAY:
            log.warning("rollout %s of %s: %s", rollout_id, row.service, decision)
