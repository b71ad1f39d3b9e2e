"""Jobs on their way in: routed, checked, written down, published; callers at once share a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.db import AnyTx, Database, after_commit
from services.chassis.errors import Refusal
from services.chassis.host import Tools
from services.chassis.jobs.sending import ENVELOPE_BYTES_MAX, OversizedJob, envelope
from services.queue.domain import job as rules
from services.queue.domain.job import NewJob, NewJobs
from services.queue.domain.queue import DEFAULT, QueueDraining
from services.queue.domain.routing import route
from services.queue.domain.states import Reason, State
from services.queue.service.ending import Endings
from services.queue.service.known import Known
from services.queue.service.pack import merged, moment, seconds, uuid_or_none
from services.queue.service.publishing import Publication
from services.queue.service.running import Running
from services.queue.store import blocking, group as groups, intake as store
from weft.jobs.v1.job_pb2 import END_REASON_REPLACED, Envelope, Priority
from weft.jobs.v1.live_pb2 import Cancel, Control
from weft.queue.v1 import spec_pb2 as pb
from weft.queue.v1.group_pb2 import NewGroup
from weft.queue.v1.settings_pb2 import QUEUE_STATE_DRAINING

TOGETHER_MAX = 500  # Callers of one transaction; more form the next.
LATE = timedelta(seconds=5)  # Older ids may lie behind the horizon already (store/upkeep.py).


@dataclass(slots=True)
class Prepared:
    """A job that may be written."""

    new: NewJob
    envelope: Envelope
    spec: pb.JobSpec

    @property
    def plain(self) -> bool:
        """Whether it has nothing to do with any other job."""
        return not (self.spec.HasField("unique") or self.spec.HasField("after") or self.spec.group_id)


@dataclass(slots=True)
class Taken:
    """What became of one: whether it is new, else which job answers for it."""

    job_id: UUID
    new: bool
    publish: bool = False


class Intake:
    """Takes jobs in by rpc, by event, and as callbacks."""

    def __init__(
        self, tools: Tools, known: Known, publication: Publication, endings: Endings, running: Running
    ) -> None:
        self._db: Database = tools.db
        self._clock, self._known, self._publication = tools.clock, known, publication
        self._endings, self._running = endings, running
        self._waiting: list[tuple[Prepared, asyncio.Future[Taken]]] = []
        self._pumping: asyncio.Task[None] | None = None
        self._publishing: set[asyncio.Task[None]] = set()

    def prepare(self, spec: pb.JobSpec, *, open_only: bool = True) -> Prepared:
        """Raises what the contract names of queues, ids, times and sizes."""
        now = self._clock.now()
        made = envelope(spec, now.timestamp())
        routed_by = self._route(spec, made, now)
        queue = self._known.get(made.queue)
        if open_only and queue.state == QUEUE_STATE_DRAINING:
            raise QueueDraining(queue=made.queue)
        due = moment(made.due_time) if made.HasField("due_time") else None
        if due:
            rules.check_due(due, now, "due_time")
        own, usual = spec.HasField("retry"), queue.settings.retry
        made.retry.CopyFrom(merged(spec.retry, usual) if own else usual)
        if not seconds(made.execution_timeout):
            made.execution_timeout.CopyFrom(queue.settings.execution_timeout)
        if not made.HasField("expire_time") and (limit_s := seconds(queue.settings.queue_timeout)):
            made.expire_time.FromDatetime((due or now) + timedelta(seconds=limit_s))
        made.unique, made.recorded = spec.HasField("unique"), True
        raw = made.SerializeToString()
        if len(raw) > ENVELOPE_BYTES_MAX:
            raise OversizedJob(job_id=made.job_id, bytes=len(raw), max=ENVELOPE_BYTES_MAX)
        return Prepared(new_job(made, raw, routed_by), made, spec)

    def _route(self, spec: pb.JobSpec, made: Envelope, now: datetime) -> str:
        """Changes queue, priority and time as the rule says that holds; returns its name."""
        made.queue = spec.queue or DEFAULT
        rule = route(self._known.rules, _facts(spec, made)) if self._known.rules else None
        if rule is None:
            return ""
        made.queue = rule.queue or made.queue
        if rule.priority:
            made.priority = Priority.Name(rule.priority)  # type: ignore[assignment, arg-type]
        if rule.delay_s:
            due = moment(made.due_time) if made.HasField("due_time") else now
            made.due_time.FromDatetime(due + timedelta(seconds=rule.delay_s))
        return rule.name

    async def take(self, job: Prepared) -> Taken:
        """One job; durable when this returns. Raises what the contract names."""
        if job.plain:
            return await self._together(job)
        taken = await self._alone(job)
        if taken.publish:
            await self._publication.now([(job.new, job.envelope)])
        return taken

    async def take_all(self, jobs: Sequence[Prepared], group: NewGroup | None = None) -> list[Taken]:
        """All of them or none, in one transaction, with the group that they are."""
        async with self._db.fast() as tx:
            if group:
                await self._open_group(tx, group, len(jobs))
            taken = await self.write(tx, jobs, skip=True, own=uuid_or_none(group.group_id if group else ""))
        due = [(job.new, job.envelope) for job, each in zip(jobs, taken, strict=True) if each.publish]
        if due:
            await self._publication.now(due)
        return taken

    async def write(
        self, tx: AnyTx, jobs: Sequence[Prepared], *, skip: bool = False, own: UUID | None = None
    ) -> list[Taken]:
        """Within a transaction: who calls publishes what is to be, or it is published later.

        With `skip`, a job whose unique key is taken is left out, though its policy is to refuse. `own` is a
        group that this very transaction has made.
        """
        holders = await self._holders(tx, jobs, skip=skip)
        wanted = {job.new.job_id: job for job in jobs if job.new.job_id not in holders}
        late = rules.floor_id(self._clock.now() - LATE)
        new = await store.add(tx, NewJobs.of(job.new for job in wanted.values()), late)
        blocked = await self._join(tx, [wanted[job_id] for job_id in new], own)
        await store.await_publication(tx, new - blocked)
        taken = []
        for job in jobs:
            job_id = job.new.job_id
            due = job_id in new and job_id not in blocked
            taken.append(Taken(holders.get(job_id, job_id), job_id in new, due))
            new.discard(job_id)  # The same id again is not new.
        return taken

    async def _holders(self, tx: AnyTx, jobs: Sequence[Prepared], *, skip: bool) -> dict[UUID, UUID]:
        """Of jobs whose unique key another one keeps: which. Raises UniqueKeyTaken."""
        unique = [job for job in jobs if job.spec.HasField("unique")]
        known = await store.known(tx, [job.new.job_id for job in unique]) if unique else set()
        holders = {}
        # In one order, so that two batches with the same keys wait, but not for each other.
        for job in sorted(unique, key=lambda each: each.spec.unique.key):
            if job.new.job_id not in known and (holder := await self._contend(tx, job, skip)):
                holders[job.new.job_id] = holder
        return holders

    async def _open_group(self, tx: AnyTx, group: NewGroup, jobs: int) -> None:
        """Raises GroupIdReused."""
        callback = group.callback.SerializeToString() if group.HasField("callback") else None
        if await groups.add(tx, UUID(group.group_id), callback, jobs, self._clock.now()) is None:
            known = await groups.get(tx, UUID(group.group_id))
            if (known["callback"], known["jobs"]) != (callback, jobs):
                raise rules.GroupIdReused(group_id=group.group_id)

    async def _contend(self, tx: AnyTx, job: Prepared, skip: bool) -> UUID | None:
        """Takes the job's unique key. Returns who keeps it instead. Raises UniqueKeyTaken."""
        unique, now = job.spec.unique, self._clock.now()
        name = rules.unique_name(job.new.queue, job.new.type, unique.key)
        until = now + timedelta(seconds=seconds(unique.window)) if seconds(unique.window) else None
        holder = await store.take_key(tx, name, job.new.job_id, until, now)
        if holder is None:
            return None
        if unique.policy == pb.UNIQUE_POLICY_REPLACE and await self._replace(tx, holder, now):
            return await store.take_key(tx, name, job.new.job_id, until, now)
        if unique.policy == pb.UNIQUE_POLICY_REJECT and not skip:
            raise rules.UniqueKeyTaken(job_id=holder)
        return holder

    async def _replace(self, tx: AnyTx, holder: UUID, now: datetime) -> bool:
        """Calls the holder off, unless an attempt has begun. Returns whether it gave way."""
        row = await self._endings.row(tx, holder)
        if row is None or row["state"] is not None:
            await store.give_way(tx, holder)
            return True
        if self._running.of(holder) or row["outcome"] is not None:
            return False
        await store.give_way(tx, holder)
        await self._endings.call_off(tx, [row], State.CANCELLED, Reason.REPLACED, now)
        order = Control(cancel=Cancel(job_id=str(holder), run=row["run"], reason=END_REASON_REPLACED))
        after_commit(tx, lambda: self._endings.order(order))
        return True

    async def _join(self, tx: AnyTx, jobs: Sequence[Prepared], own: UUID | None) -> set[UUID]:
        """Puts new jobs into their groups and behind those they wait for; returns the blocked ones."""
        for group_id in {job.new.group_id for job in jobs} - {None, own}:
            await _require_open(tx, group_id)
        blocked = set()
        for job in jobs:
            if job.spec.HasField("after") and await self._block(tx, job):
                blocked.add(job.new.job_id)
        return blocked

    async def _block(self, tx: AnyTx, job: Prepared) -> bool:
        """Whether it has something to wait for. Raises UnknownDependency."""
        on = [UUID(each) for each in job.spec.after.job_ids]
        states = await blocking.states(tx, on)
        for each in on:
            if each not in states:
                raise rules.UnknownDependency(job_id=each)
        waits = [each for each in on if states[each] != State.SUCCEEDED]
        if waits:
            await blocking.block(tx, job.new.job_id, waits, job.spec.after.on_failure)
            if any(states[each] is not None for each in waits):
                after_commit(tx, lambda: self._endings.look_soon([job.new.job_id]))
        return bool(waits)

    async def _alone(self, job: Prepared) -> Taken:
        async with self._db.fast() as tx:
            return (await self.write(tx, [job]))[0]

    async def _together(self, job: Prepared) -> Taken:
        """An idle process writes at once; a busy one gathers what comes for the next transaction."""
        done: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, done))
        if self._pumping is None:
            self._pumping = asyncio.create_task(self._pump(), name="queue intake")
        return await done

    async def _pump(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                try:
                    async with self._db.fast() as tx:
                        taken = await self.write(tx, _distinct([job for job, _ in batch]))
                except Exception as error:
                    _fail([done for _, done in batch], error)
                else:
                    task = asyncio.create_task(self._publish(batch, taken), name="queue publishing")
                    self._publishing.add(task)
                    task.add_done_callback(self._publishing.discard)
        finally:
            self._pumping = None

    async def _publish(
        self, batch: Sequence[tuple[Prepared, asyncio.Future[Taken]]], taken: Sequence[Taken]
    ) -> None:
        """What was recorded together; meanwhile the next are. Then their callers are answered."""
        jobs = {job.new.job_id: job for job, _ in batch}
        due = [(jobs[each.job_id].new, jobs[each.job_id].envelope) for each in taken if each.publish]
        try:
            if due:
                await self._publication.now(due)
        except Exception as error:
            _fail([done for _, done in batch], error)
        else:
            _settle(batch, taken)


async def _require_open(tx: AnyTx, group_id: UUID | None) -> None:
    """Raises UnknownGroup, GroupClosed."""
    row = await groups.get(tx, group_id, lock="share") if group_id else None
    if row is None:
        raise rules.UnknownGroup(group_id=group_id)
    if row["jobs"] is not None:
        raise rules.GroupClosed(group_id=group_id)


def new_job(
    made: Envelope,
    raw: bytes,
    routed_by: str = "",
    sequence: int | None = None,
    job_id: UUID | None = None,
) -> NewJob:
    """The row of a job that came as this envelope; `job_id` where that was read already."""
    labels = made.labels
    return NewJob(
        job_id=job_id or UUID(made.job_id),
        queue=made.queue,
        type=made.type,
        priority=made.priority or Priority.PRIORITY_MEDIUM,
        key=made.key,
        group_id=uuid_or_none(made.group_id),
        labels=[f"{name}={value}" for name, value in sorted(labels.items())] if labels else [],
        due_at=moment(made.due_time) if made.HasField("due_time") else None,
        expire_at=moment(made.expire_time) if made.HasField("expire_time") else None,
        routed_by=routed_by,
        envelope=raw,
        sequence=sequence,
    )


def _facts(spec: pb.JobSpec, made: Envelope) -> dict[str, object]:
    """What conditions may ask for."""
    return {
        "type": spec.type,
        "queue": made.queue,
        "priority": Priority.Name(spec.priority or Priority.PRIORITY_MEDIUM).removeprefix("PRIORITY_"),
        "key": spec.key,
        "labels": dict(spec.labels),
        "content_type": spec.payload.content_type,
        "metadata": dict(spec.payload.metadata),
        "size": len(spec.payload.data),
    }


def _distinct(jobs: Sequence[Prepared]) -> list[Prepared]:
    """Each id once: two callers may send the same job at the same time."""
    return list({job.new.job_id: job for job in jobs}.values())


def _settle(batch: Sequence[tuple[Prepared, asyncio.Future[Taken]]], taken: Sequence[Taken]) -> None:
    """The first caller with an id has made the job, others are told that it is there."""
    known = {each.job_id: each for each in taken}
    for job, done in batch:
        each = known[job.new.job_id]
        if not done.done():
            done.set_result(each)
        known[job.new.job_id] = Taken(each.job_id, new=False)


def _fail(waiting: Sequence[asyncio.Future[Taken]], error: Exception) -> None:
    for done in waiting:
        if not done.done():
            # Each its own: an exception that two tasks raise has a traceback of both.
            done.set_exception(type(error)(**error.facts) if isinstance(error, Refusal) else error)
