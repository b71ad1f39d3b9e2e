"""How runs end, and what that sets off: keys that are free, jobs that may go, groups that are complete."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import AnyTx, Database, after_commit
from services.chassis.events import emit
from services.chassis.host import Tools
from services.queue.domain.ends import EndKind, Ends, Run, fresh
from services.queue.domain.job import DEPENDENTS_MAX
from services.queue.domain.states import Reason, State
from services.queue.service.known import Known
from services.queue.service.wire import Wire
from services.queue.store import blocking, ending as store, group as groups, intake, reading
from weft.jobs.v1.job_pb2 import Envelope
from weft.jobs.v1.live_pb2 import Control, StateChange, Update
from weft.queue.v1.events_pb2 import GroupEnded, JobEnded

WAIT, RUN = 3, 2  # weft.queue.v1.DependencyPolicy; anything else cancels.
COUNTED = ("succeeded", "failed", "cancelled", "expired")

Callback = Callable[[AnyTx, bytes, UUID, dict[str, str]], Awaitable[bool]]


class Endings:
    """Writes ends, whoever tells of them."""

    def __init__(
        self, tools: Tools, known: Known, wire: Wire, soon: Callable[[Iterable[UUID]], None]
    ) -> None:
        """`soon` publishes what was recorded, after the commit."""
        self._db: Database = tools.db
        self._clock, self._known, self._wire, self._soon = tools.clock, known, wire, soon
        self._look: set[UUID] = set()
        self._removals: deque[Any] = deque()
        self._removable = asyncio.Event()
        self._stirred = asyncio.Event()
        self.callback: Callback | None = None  # How a group's callback is enqueued; set by who knows.

    async def end(self, tx: AnyTx, ends: Sequence[Ends]) -> set[Run]:
        """Writes them, with all that follows. Returns those that had ended before."""
        known = await store.end(tx, ends)
        if new := fresh(ends, known):
            await self._follow(tx, new)
        return known

    async def call_off(
        self,
        tx: AnyTx,
        rows: Sequence[Any],
        state: State,
        reason: Reason,
        now: datetime,
        remove: Sequence[Any] | None = None,
    ) -> None:
        """Ends open runs that no worker reports on. `rows` are of the store's view of jobs.

        The messages of all of them are taken out of the stream, or of those in `remove`.
        """
        await self.end(tx, [_called_off(row, state, reason, now) for row in rows])
        updates = [_told(row, state, reason, now) for row in rows]

        def tell() -> None:
            self._wire.tell(updates)
            self._removals.extend(rows if remove is None else remove)
            self._removable.set()

        after_commit(tx, tell)

    async def row(self, tx: AnyTx, job_id: UUID) -> Any:
        """A job; nobody else steers it until `tx` ends."""
        return await reading.locked(tx, job_id)

    def order(self, control: Control) -> None:
        """To all workers."""
        self._wire.order(control)

    def look_soon(self, jobs: Iterable[UUID]) -> None:
        """These blocked jobs may be free to go."""
        self._look |= set(jobs)
        self._stirred.set()

    async def free(self, tx: AnyTx, jobs: Sequence[UUID]) -> None:
        """Lets blocked jobs go that have nothing left to wait for, and calls off those in vain."""
        now, waiting = self._clock.now(), list(jobs)
        policies = await blocking.lock(tx, waiting)
        states: dict[UUID, list[int | None]] = {job: [] for job in policies}
        for row in await blocking.left(tx, list(policies)):
            states[row["job_id"]].append(row["state"])
        go = [job for job, policy in policies.items() if _may_go(policy, states[job])]
        vain = [job for job, policy in policies.items() if _in_vain(policy, states[job])]
        await blocking.free(tx, go + vain)
        await intake.await_publication(tx, go)
        after_commit(tx, lambda: self._soon(go))
        if vain:
            found = await reading.rows(tx, vain)
            await self.call_off(tx, found, State.CANCELLED, Reason.DEPENDENCY_FAILED, now)

    async def sweep(self) -> None:
        """Frees what nobody freed: dependency and dependent were written at the same time. For ever."""
        while True:
            overdue = await blocking.overdue(self._db, DEPENDENTS_MAX)
            look, self._look = self._look | set(overdue), set()
            if look:
                async with self._db.fast() as tx:
                    await self.free(tx, sorted(look))
            self._stirred.clear()
            try:
                async with asyncio.timeout(2.0):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def remove(self) -> None:
        """Takes the messages of jobs that were called off out of the stream; for ever.

        One that is lost here (a crash, NATS away) comes to a worker, whose report is then `known`.
        """
        while True:
            await self._removable.wait()
            self._removable.clear()
            while self._removals:
                await self._wire.remove_message(self._removals.popleft())

    async def _follow(self, tx: AnyTx, new: Sequence[Ends]) -> None:
        if unique := [job_id for each in new if each.kind.unique for job_id in each.job_ids]:
            await intake.release_keys(tx, unique)
        waiting = await store.follow(tx, [job_id for each in new for job_id in each.job_ids])
        if dead := [each for each in new if each.kind.state == State.FAILED and self._kept(each.kind.queue)]:
            await store.bury(tx, dead)
        await self._count(tx, [each for each in new if each.kind.group_id and each.kind.run == 1])
        if announced := [event for each in new if each.kind.announce for event in _announcements(each)]:
            await emit(tx, *announced)
        if waiting:
            await self.free(tx, waiting[:DEPENDENTS_MAX])

    def _kept(self, queue: str) -> bool:
        found = self._known.find(queue)
        return found is None or not found.settings.dead_letters.disabled

    async def _count(self, tx: AnyTx, new: Sequence[Ends]) -> None:
        """Each group's row is locked in the order of ids, so that reports wait but not for each other."""
        for group_id in sorted({each.kind.group_id for each in new if each.kind.group_id}):
            of_group = [each for each in new if each.kind.group_id == group_id]
            states = [each.kind.state for each in of_group for _ in each.job_ids]
            if (row := await store.count(tx, group_id, states)) is not None:
                await self.complete(tx, row)

    async def complete(self, tx: AnyTx, group: Any) -> None:
        """Ends a group whose jobs have all ended; its row is locked."""
        counts = {name: group[name] for name in COUNTED}
        if group["jobs"] is None or group["end_time"] or sum(counts.values()) < group["jobs"]:
            return
        now = self._clock.now()
        callback_id: UUID | None = None
        if group["callback"] is not None and self.callback:
            callback_id = uuid7(now)
            labels = {f"group.{name}": str(count) for name, count in counts.items()}
            labels["group.id"] = str(group["group_id"])
            if not await self.callback(tx, group["callback"], callback_id, labels):
                callback_id = None
        await groups.end(tx, group["group_id"], now, callback_id)
        await emit(tx, GroupEnded(group_id=str(group["group_id"]), **counts))


def _may_go(policy: int, states: Sequence[int | None]) -> bool:
    if policy == RUN:
        return all(state is not None for state in states)
    return all(state == State.SUCCEEDED for state in states)


def _in_vain(policy: int, states: Sequence[int | None]) -> bool:
    failed = any(state not in (None, State.SUCCEEDED) for state in states)
    return failed and policy not in (RUN, WAIT)


def _called_off(row: Any, state: State, reason: Reason, now: datetime) -> Ends:
    envelope = Envelope.FromString(row["envelope"])
    kind = EndKind(
        run=row["run"],
        state=state,
        reason=reason,
        queue=row["queue"],
        type=row["type"],
        attempt=row["last_attempt"] or 0,
        worker="",
        group_id=row["group_id"],
        unique=envelope.unique,
        announce=envelope.announce,
    )
    return Ends(kind, [row["job_id"]], [None], [now.timestamp()])


def _told(row: Any, state: State, reason: Reason, now: datetime) -> Update:
    change = StateChange(state=int(state), reason=int(reason))  # type: ignore[arg-type]
    update = Update(
        job_id=str(row["job_id"]), run=row["run"], queue=row["queue"], type=row["type"], state=change
    )
    update.labels.update(label.split("=", 1) for label in row["labels"])
    update.time.FromDatetime(now)
    return update


def _announcements(ends: Ends) -> Iterator[JobEnded]:
    kind = ends.kind
    for job_id in ends.job_ids:
        yield JobEnded(
            job_id=str(job_id),
            run=kind.run,
            queue=kind.queue,
            type=kind.type,
            state=kind.state,  # type: ignore[arg-type]
            reason=kind.reason,  # type: ignore[arg-type]
        )
