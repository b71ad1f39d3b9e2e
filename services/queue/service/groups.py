"""weft.queue.v1.GroupService."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from services.chassis.db import AnyTx, after_commit
from services.chassis.errors import Refusal
from services.chassis.method import Call
from services.queue.domain.job import GroupClosed, GroupIdReused, UnknownGroup
from services.queue.service.pack import stamp
from services.queue.service.shared import Shared
from services.queue.store import group as store
from weft.queue.v1 import group_pb2 as pb
from weft.queue.v1.group_pb2_grpc import GroupServiceServicer
from weft.queue.v1.spec_pb2 import JobSpec

log = logging.getLogger("weft.queue")


class Groups(GroupServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock
        shared.endings.callback = self._enqueue

    async def OpenGroup(self, request: pb.OpenGroupRequest, call: Call) -> pb.OpenGroupResponse:
        callback = None
        if request.group.HasField("callback"):
            self._shared.intake.prepare(request.group.callback)
            callback = request.group.callback.SerializeToString()
        group_id = UUID(request.group.group_id)
        async with self._db.fast() as tx:
            row = await store.add(tx, group_id, callback, None, self._clock.now())
            if row is None:
                row = await store.get(tx, group_id)
                if row["callback"] != callback:
                    raise GroupIdReused(group_id=group_id)
        return pb.OpenGroupResponse(group=to_pb(row))

    async def CloseGroup(self, request: pb.CloseGroupRequest, call: Call) -> pb.CloseGroupResponse:
        group_id = UUID(request.group_id)
        async with self._db.fast() as tx:
            row = await _existing(tx, group_id, lock="update")
            if row["jobs"] is None:
                row = await store.close(tx, group_id, request.jobs)
                await self._shared.endings.complete(tx, row)
            elif row["jobs"] != request.jobs:
                raise GroupClosed(group_id=group_id)
            row = await store.get(tx, group_id)
        return pb.CloseGroupResponse(group=to_pb(row))

    async def GetGroup(self, request: pb.GetGroupRequest, call: Call) -> pb.GetGroupResponse:
        async with self._db.fast() as tx:
            return pb.GetGroupResponse(group=to_pb(await _existing(tx, UUID(request.group_id))))

    async def _enqueue(self, tx: AnyTx, callback: bytes, job_id: UUID, labels: dict[str, str]) -> bool:
        """A group's callback, in the transaction that ends the group, which must not fail of it.

        Its queue takes it even if it drains. Returns whether it was enqueued.
        """
        spec = JobSpec.FromString(callback)
        spec.job_id = str(job_id)
        spec.labels.update(labels)
        try:
            job = self._shared.intake.prepare(spec, open_only=False)
        except Refusal as refusal:
            log.error("a group's callback is refused: %s", refusal, extra={"facts": labels})  # noqa: TRY400
            return False
        await self._shared.intake.write(tx, [job])
        after_commit(tx, lambda: self._shared.publication.soon([job_id]))
        return True


async def _existing(tx: AnyTx, group_id: UUID, lock: str = "") -> Any:
    """Raises UnknownGroup."""
    row = await store.get(tx, group_id, lock=lock)
    if row is None:
        raise UnknownGroup(group_id=group_id)
    return row


def to_pb(row: Any) -> pb.Group:
    return pb.Group(
        group_id=str(row["group_id"]),
        jobs=row["jobs"] or 0,
        succeeded=row["succeeded"],
        failed=row["failed"],
        cancelled=row["cancelled"],
        expired=row["expired"],
        closed=row["jobs"] is not None,
        create_time=stamp(row["create_time"]),
        end_time=stamp(row["end_time"]),
        callback_job_id=str(row["callback_job_id"] or ""),
    )
