"""Runs the sagas of a service: as many side by side as there is room for, each by one replica at a time."""

import asyncio
import contextvars
import logging
import random
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from prometheus_client import Counter, Gauge, Histogram

from services.chassis import saga_store as store, telemetry
from services.chassis.clock import Clock
from services.chassis.db import AnyTx, Database, after_commit
from services.chassis.events import Provenance, provenance
from services.chassis.lease import Lease
from services.chassis.saga import Act, Change, Done, Failure, Run, Saga, Start, Step, TimedOut, Wait, failure
from services.chassis.saga_store import Logged, Outcome, Row, State

ROOM = 64  # Sagas one process runs at once; each holds a few kB and now and then a connection.
MARGIN_S = (
    5.0  # A holder that lives and has not recorded a step this long after its timeout is taken for dead.
)
POLL_S = 1.0  # What a replica that was killed left is taken up within about this.
RETRY_S, RETRY_S_MAX = 0.1, 30.0  # Between attempts while something is away.
BUGS_MAX = 5  # Attempts at a step that fails as nobody foresaw.
REFUSED_UNDO_MAX = 3  # Attempts to undo what is refused: a race may pass, a rule does not.
KEPT_D = 400  # How long an ended saga is kept: orders are called off, returned and asked about for a year.
UPKEEP_EVERY_S = 60.0

STEPS = Counter("weft_saga_steps", "Attempts at steps of sagas that ended.", ["saga", "step", "outcome"])
ENDED = Counter("weft_sagas_ended", "Sagas that ended.", ["saga", "state"])
SECONDS = Histogram(
    "weft_saga_seconds",
    "From a saga's start to its end.",
    ["saga"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10, 60, 600, 3600, 86400),
)
STUCK = Gauge("weft_sagas_stuck", "Sagas that a person has to look at.", ["saga"])

log = logging.getLogger("weft.saga")


class Lost(Exception):
    """Another replica holds the saga now."""


class Sagas:
    """The sagas of one service in one process."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        sagas: Sequence[Saga],
        service: str,
        *,
        room: int = ROOM,
        margin_s: float = MARGIN_S,
    ) -> None:
        self._db, self._clock, self._service = db, clock, service
        self._sagas = {saga.kind: saga for saga in sagas}
        self._room, self._margin_s = room, margin_s
        self._name, self._holder = f"saga.{service}.{secrets.token_hex(8)}", ""
        self._turns = asyncio.Semaphore(
            max(1, room)
        )  # One transaction may start more than there is room for.
        self._tasks: dict[tuple[str, UUID], asyncio.Task[None]] = {}
        self._poked = asyncio.Event()
        self._upkeep_at = 0.0

    # What callers do, in transactions of theirs.

    async def start(self, tx: AnyTx, begun: Start) -> bool:
        """Begins a saga when `tx` commits. False: there is one with this id.

        This process runs it at once if it has room.
        """
        saga, now, came = self._sagas[begun.kind], self._clock.now(), provenance.get()
        timeout_s = saga.timeout_s if begun.timeout_s is None else begun.timeout_s
        new = Row(
            kind=begun.kind,
            saga_id=begun.saga_id,
            subject=begun.subject,
            state=State.RUNNING,
            step=saga.next(saga.index(begun.after) + 1 if begun.after else 0, begun.data),
            data=begun.data,
            actor=came.actor,
            trace=came.trace,
            due_at=now,
            deadline_at=now + timedelta(seconds=timeout_s),
            created_at=now,
        )
        held_s = self._lease_s(saga, new.step) if len(self._tasks) < self._room else 0.0
        row = await store.start(tx, new, held_s, self._holder)
        if row is not None:
            after_commit(tx, lambda: self._begin(row) if held_s else self.poke())
        return row is not None

    async def wake(self, tx: AnyTx, kind: str, saga_id: UUID) -> None:
        """What it waits for may have come; nothing happens to one that has ended or never was."""
        await store.wake(tx, kind, saga_id, self._clock.now())
        after_commit(tx, self.poke)

    async def call_off(self, tx: AnyTx, kind: str, saga_id: UUID, reason: str) -> bool:
        """Turns it back, though it be done. False: it is turned back already, or never was."""
        called_off = await store.call_off(tx, kind, saga_id, reason, self._clock.now())
        after_commit(tx, self.poke)
        return called_off

    async def retry(self, tx: AnyTx, kind: str, saga_id: UUID) -> Row:
        """Lets one that is stuck, or rests, go on at once. Raises UnknownProcess, ProcessEnded."""
        row = await store.retry(tx, kind, saga_id, self._clock.now())
        after_commit(tx, self.poke)
        return row

    def step(self, row: Row) -> str:
        """Name of the step where it stands; empty when it has ended."""
        steps = self._sagas[row.kind].steps
        ended = row.state in (State.DONE, State.UNDONE)
        return "" if ended or not 0 <= row.step < len(steps) else steps[row.step].name

    def poke(self) -> None:
        """Something may be due."""
        self._poked.set()

    async def resting(self, kind: str, saga_id: UUID) -> None:
        """Waits until this process does not run it: it has ended, waits, or is another's."""
        if task := self._tasks.get((kind, saga_id)):
            await asyncio.wait([task])

    # The loop.

    async def run(self) -> None:
        """Takes up what is due, for ever. When it is stopped it lets go of what it holds."""
        try:
            async with self._db.leases.hold(self._name) as lease:
                await self._loop(lease)
        finally:
            await self._let_go()  # Of what began before there was a lease, too.

    async def _loop(self, lease: Lease) -> None:
        self._holder = self._name
        try:
            while True:
                lease.check()
                self._poked.clear()
                await self._take_up()
                await self._keep()
                await self._sleep()
        finally:
            self._holder = ""
            await self._let_go()

    @property
    def living(self) -> bool:
        """Whether others see at once that this process is no more."""
        return bool(self._holder)

    async def _take_up(self) -> None:
        room = self._room - len(self._tasks)
        if room > 0:
            longest = max(step.timeout_s for saga in self._sagas.values() for step in saga.steps)
            lease_s = longest + self._margin_s
            wanted = (self._clock.now(), room, lease_s, list(self._sagas), self._holder)
            due = await self._db.fetch(store.CLAIM, *wanted)
            for record in due:
                self._begin(store.row_of(record))

    async def _sleep(self) -> None:
        now = self._clock.now()
        next_at = await self._db.fetchval(store.NEXT, now, list(self._sagas))
        seconds = min(POLL_S, max(0.001, (next_at - now).total_seconds())) if next_at else POLL_S
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait({sleeping, poked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            poked.cancel()

    async def _keep(self) -> None:
        """Counts the stuck and forgets the old, now and then."""
        if self._clock.monotonic() < self._upkeep_at:
            return
        self._upkeep_at = self._clock.monotonic() + UPKEEP_EVERY_S
        stuck = {row["kind"]: row["stuck"] for row in await self._db.fetch(store.STUCK)}
        for kind in self._sagas:
            STUCK.labels(kind).set(stuck.get(kind, 0))
        await store.forget(self._db, self._clock.now() - timedelta(days=KEPT_D))

    async def _let_go(self) -> None:
        """Stops where it is; who comes next need not wait for the leases."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, row: Row) -> None:
        """Runs it in a task that has nothing of the call that started it: no deadline, no caller."""
        key = (row.kind, row.saga_id)
        task = asyncio.create_task(self._drive(row), context=contextvars.Context())
        self._tasks[key] = task

        def over(_: asyncio.Task[None]) -> None:
            if len(self._tasks) >= self._room:
                self.poke()  # Others wait for room.
            if self._tasks.get(key) is task:
                del self._tasks[key]

        task.add_done_callback(over)

    def _lease_s(self, saga: Saga, step: int) -> float:
        """How long its holder may be silent when this step comes next."""
        at = saga.steps[step].timeout_s if step < len(saga.steps) else 0.0
        return at + self._margin_s

    # One saga.

    async def _drive(self, row: Row) -> None:
        """From where it is until it ends, rests or is lost."""
        provenance.set(Provenance(f"service:{self._service}", trace=row.trace))
        if row.trace:
            telemetry.current_trace.set(telemetry.Trace(row.trace, secrets.token_hex(8)))
        held: Row | None = row
        try:
            async with self._turns:
                while held is not None:
                    row = held
                    held = await self._turn(row)
        except Lost:
            log.info("a saga is another's now", extra=_facts(row))
        except asyncio.CancelledError:
            await self._db.execute(store.RELEASE, row.kind, row.saga_id, row.fence)
            raise
        except Exception:
            log.exception("a saga rests until its lease ends", extra=_facts(row))

    async def _turn(self, row: Row) -> Row | None:
        """One attempt at one step, and its record. None: it ended or rests."""
        saga = self._sagas[row.kind]
        if row.state is State.RUNNING and (reason := self._called_off(row)):
            return await self._turn_back(row, Failure(reason, "", away=False, bug=False), "")
        if not 0 <= row.step < len(saga.steps):
            return await self._end(row)
        step = saga.steps[row.step]
        act = step.do if row.state is State.RUNNING else step.undo
        if act is None:
            return replace(row, step=row.step - 1)
        try:
            outcome = await _within(step, act, row)
        except Exception as error:
            return await self._failed(row, step, error)
        try:
            return await self._record(row, step, outcome or Done())
        except Lost:
            raise
        except Exception as error:  # What the step did elsewhere is done, so it has to be undone.
            return await self._failed(replace(row, attempts=max(row.attempts, 1)), step, error)

    def _called_off(self, row: Row) -> str:
        """Why it goes no further; empty: it does."""
        if row.called_off is not None:
            return row.called_off
        late = row.deadline_at is not None and row.deadline_at <= self._clock.now()
        return "TIMED_OUT" if late else ""

    async def _record(self, row: Row, step: Step, outcome: Done | Wait) -> Row | None:
        """Raises what the outcome's change raises; then nothing is recorded."""
        data = {**row.data, **outcome.data}
        if isinstance(outcome, Wait):
            due = self._clock.now() + timedelta(seconds=outcome.seconds)
            if row.deadline_at and row.state is State.RUNNING:
                due = min(due, row.deadline_at)
            waits = replace(row, attempts=1, data=data, due_at=due)
            return await self._move(waits, Logged(step=step.name, outcome=Outcome.WAITS), outcome.change)
        moved = self._past(replace(row, data=data), step)
        done = Outcome.DONE if row.state is State.RUNNING else Outcome.UNDONE
        return await self._move(moved, Logged(step=step.name, outcome=done), outcome.change, go_on=True)

    def _past(self, row: Row, step: Step) -> Row:
        """The row after `step`."""
        saga = self._sagas[row.kind]
        if row.state is State.RUNNING:
            deadline = None if step.name == saga.until else row.deadline_at
            row = replace(row, step=saga.next(row.step + 1, row.data), attempts=0, deadline_at=deadline)
            ended = row.step == len(saga.steps)
            return replace(row, state=State.DONE, due_at=None, deadline_at=None) if ended else row
        row = replace(row, step=saga.last(row.step - 1, row.data), attempts=0)
        return row if row.step >= 0 else replace(row, state=State.UNDONE, due_at=None)

    async def _end(self, row: Row) -> Row | None:
        """All its steps are behind it, on the way forward or back."""
        state = State.DONE if row.state is State.RUNNING else State.UNDONE
        done = Outcome.DONE if state is State.DONE else Outcome.UNDONE
        ended = replace(row, state=state, due_at=None, deadline_at=None)
        return await self._move(ended, Logged(step="", outcome=done))

    async def _failed(self, row: Row, step: Step, error: Exception) -> Row | None:
        why = failure(error)
        attempts = row.attempts + 1
        if why.bug:
            log.error("a step fails as nobody foresaw", exc_info=error, extra=_facts(row, step))
        if why.away or (why.bug and attempts < BUGS_MAX):
            return await self._rest(row, step, why)
        if row.state is State.RUNNING:
            return await self._turn_back(row, why, step.name)
        if not why.bug and attempts < REFUSED_UNDO_MAX:
            return await self._rest(row, step, why)
        log.error("a saga is stuck", extra=_facts(row, step))
        stuck = replace(row, state=State.STUCK, attempts=attempts, due_at=None)
        return await self._move(stuck, Logged(step=step.name, outcome=Outcome.STUCK, detail=why.reason))

    async def _rest(self, row: Row, step: Step, why: Failure) -> Row | None:
        seconds = min(RETRY_S * 2 ** min(row.attempts, 20), RETRY_S_MAX) * random.uniform(0.5, 1)
        due = self._clock.now() + timedelta(seconds=seconds)
        if row.deadline_at and row.state is State.RUNNING:
            due = min(due, row.deadline_at)
        rests = replace(row, attempts=row.attempts + 1, due_at=due)
        return await self._move(rests, Logged(step=step.name, outcome=Outcome.RETRIED, detail=why.reason))

    async def _turn_back(self, row: Row, why: Failure, failed_step: str) -> Row | None:
        """Begins to undo: the step where it stands if an attempt may have had an effect, else the one before.

        A refusal at the first attempt says that nothing was done.
        """
        saga = self._sagas[row.kind]
        last = saga.last(row.step if row.attempts > 0 else row.step - 1, row.data)
        back = replace(
            row,
            state=State.UNDOING if last >= 0 else State.UNDONE,
            step=last,
            attempts=0,
            due_at=row.due_at if last >= 0 else None,
            deadline_at=None,
            reason=why.reason,
            failed_step=failed_step,
            message=why.message,
        )
        outcome = Outcome.REFUSED if failed_step else Outcome.CALLED_OFF
        logged = Logged(step=failed_step or self.step(row), outcome=outcome, detail=why.reason)
        return await self._move(back, logged, go_on=True)

    async def _move(
        self, row: Row, logged: Logged, change: Change | None = None, *, go_on: bool = False
    ) -> Row | None:
        """Records, with the change. Returns the row if it is to go on, and has not ended. Raises Lost."""
        go_on = go_on and row.state in (State.RUNNING, State.UNDOING)
        held_s = self._lease_s(self._sagas[row.kind], row.step) if go_on else 0.0
        async with self._db.fast() as tx:
            moved = await store.move(tx, row, logged, self._clock.now(), held_s)
            if moved is None:
                raise Lost
            if change:
                await change(tx)
        STEPS.labels(row.kind, logged.step, logged.outcome).inc()
        if moved.state in (State.DONE, State.UNDONE):
            ENDED.labels(row.kind, moved.state).inc()
            SECONDS.labels(row.kind).observe((self._clock.now() - row.created_at).total_seconds())
        if not go_on and moved.due_at and moved.due_at <= self._clock.now() + timedelta(seconds=POLL_S):
            self.poke()
        return moved if go_on else None


async def _within(step: Step, act: Act, row: Row) -> Done | Wait | None:
    """Raises what the act raises, and TimedOut."""
    limit = asyncio.timeout(step.timeout_s)
    try:
        async with limit:
            return await act(_run(row))
    except TimeoutError as error:
        raise TimedOut(f"{step.name} took longer than {step.timeout_s:g} s") from error


def _run(row: Row) -> Run:
    return Run(
        kind=row.kind,
        saga_id=row.saga_id,
        subject=row.subject,
        data=row.data,
        attempt=row.attempts + 1,
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        reason=row.reason,
        failed_step=row.failed_step,
        message=row.message,
    )


def _facts(row: Row, step: Step | None = None) -> dict[str, Any]:
    facts = {"saga": row.kind, "id": str(row.saga_id), "step": step.name if step else row.step}
    return {"facts": facts}
