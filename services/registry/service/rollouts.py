"""weft.registry.v1.RolloutService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

from services.chassis.method import Call
from services.registry.domain import figures
from services.registry.domain.rollout import Reason, rising
from services.registry.domain.rollout_state import GOING, Rollout, RolloutIdReused, SharesNotRising
from services.registry.domain.traffic_policy import VersionNotServed, check_whole
from services.registry.service import pack, rollout_pack, shares
from services.registry.service.moving import Moving
from services.registry.service.shared import Shared
from services.registry.store import instance as instances, rollout as store, state, traffic_policy as policies
from weft.registry.v1 import rollout_pb2 as pb
from weft.registry.v1.rollout_pb2_grpc import RolloutServiceServicer

HEARTBEAT_S = 15.0


class Rollouts(RolloutServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def StartRollout(self, request: pb.StartRolloutRequest, call: Call) -> pb.StartRolloutResponse:
        given, rollout_id = request.settings, UUID(request.rollout_id)
        wrong = rising([step.share for step in given.steps])
        if wrong is not None:
            raise SharesNotRising(wrong)
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.find(tx, rollout_id)
            if row is None:
                change = shares.Change(tx, order, self._shared.clock.now())
                await _check(change, given)
                row = _row(rollout_id, given, change)
                tx.add(row)
                await Moving(change, row).begin()
            elif row.settings != given.SerializeToString(deterministic=True):
                raise RolloutIdReused(rollout_id=request.rollout_id)
        return pb.StartRolloutResponse(rollout=rollout_pack.rollout(row))

    async def PauseRollout(self, request: pb.PauseRolloutRequest, call: Call) -> pb.PauseRolloutResponse:
        row = await self._move(request.rollout_id, "PAUSED", lambda moving: moving.pause(Reason.ASKED))
        return pb.PauseRolloutResponse(rollout=rollout_pack.rollout(row))

    async def ResumeRollout(self, request: pb.ResumeRolloutRequest, call: Call) -> pb.ResumeRolloutResponse:
        row = await self._move(request.rollout_id, "RUNNING", lambda moving: moving.resume())
        return pb.ResumeRolloutResponse(rollout=rollout_pack.rollout(row))

    async def PromoteRollout(
        self, request: pb.PromoteRolloutRequest, call: Call
    ) -> pb.PromoteRolloutResponse:
        row = await self._move(request.rollout_id, "PROMOTED", lambda moving: moving.promote(Reason.ASKED))
        return pb.PromoteRolloutResponse(rollout=rollout_pack.rollout(row))

    async def AbortRollout(self, request: pb.AbortRolloutRequest, call: Call) -> pb.AbortRolloutResponse:
        row = await self._move(request.rollout_id, "ABORTED", lambda moving: moving.abort())
        return pb.AbortRolloutResponse(rollout=rollout_pack.rollout(row))

    async def _move(self, rollout_id: str, wanted: str, move: Callable[[Moving], Awaitable[None]]) -> Rollout:
        """What is so already stays. Raises UnknownRollout, RolloutEnded."""
        async with self._shared.db.transaction() as tx:
            order = await state.locked(tx)
            row = await store.get(tx, UUID(rollout_id))
            if row.state != wanted:
                row.check_going()
                await move(Moving(shares.Change(tx, order, self._shared.clock.now()), row))
        return row

    async def GetRollout(self, request: pb.GetRolloutRequest, call: Call) -> pb.GetRolloutResponse:
        row = await self._get(UUID(request.rollout_id))
        return pb.GetRolloutResponse(rollout=rollout_pack.rollout(row))

    async def _get(self, rollout_id: UUID) -> Rollout:
        async with self._shared.db.transaction() as tx:
            return await store.get(tx, rollout_id)

    async def ListRollouts(self, request: pb.ListRolloutsRequest, call: Call) -> pb.ListRolloutsResponse:
        page = store.ROLLOUTS.page(request, self._shared.page_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListRolloutsResponse(rollouts=map(rollout_pack.rollout, rows), next_page_token=token)

    async def WatchRollout(
        self, request: pb.WatchRolloutRequest, call: Call
    ) -> AsyncIterator[pb.WatchRolloutResponse]:
        feed, told, rollout_id = self._shared.feed, -1, UUID(request.rollout_id)
        with self._shared.room.one(), feed.listening():
            await call.send_initial_metadata(())
            while True:
                async with self._shared.db.transaction("REPEATABLE READ") as tx:
                    seen, row = await state.at(tx), await store.get(tx, rollout_id)
                if row.revision > told:
                    told = row.revision
                    yield pb.WatchRolloutResponse(rollout=rollout_pack.rollout(row))
                if row.state not in GOING:
                    return
                if not await feed.beyond(seen, HEARTBEAT_S):
                    yield pb.WatchRolloutResponse(heartbeat=pack.stamp(self._shared.clock.now()))


async def _check(change: shares.Change, given: pb.RolloutSettings) -> None:
    """Raises RolloutInProgress, OtherShares, VersionNotServed."""
    tx, service = change.tx, given.service
    await store.check_none(tx, service)
    now = shares.of(shares.settings(await policies.find(tx, service)))
    check_whole(service, given.stable_version, now)
    for version in (given.stable_version, given.canary_version):
        if not await instances.serving(tx, service, version):
            raise VersionNotServed(service=service, version=version)


def _row(rollout_id: UUID, given: pb.RolloutSettings, change: shares.Change) -> Rollout:
    return Rollout(
        rollout_id=rollout_id,
        service=given.service,
        settings=given.SerializeToString(deterministic=True),
        state="RUNNING",
        reason=Reason.NONE.value,
        step=0,
        watched_ms=0,
        looks=0,
        figures=figures.written(figures.Figures()),
        created_at=change.now,
    )
