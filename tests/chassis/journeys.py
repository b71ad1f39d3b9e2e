"""A saga of some steps, and the world that it changes: what came to be, however often it was asked for."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from services.chassis import saga_runner
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.errors import FailedPrecondition, Unavailable
from services.chassis.saga import Done, Run, Saga, Start, Step
from services.chassis.saga_runner import Sagas

STEPS = ("reserve", "pay", "confirm")
TABLES = """
create table world (
    n bigint generated always as identity, saga_id uuid, step text, act text, primary key (saga_id, step, act)
);
create table own (saga_id uuid, act text, n bigint generated always as identity);
"""
DO = "insert into world (saga_id, step, act) values ($1, $2, $3) on conflict do nothing"
OWN = """
insert into own (saga_id, act) select $1, $2
where $2 = 'made' or exists (select from own where saga_id = $1 and act = 'made')
"""
SEEN = "select step, act from world where saga_id = $1 order by n"


class NoRoom(FailedPrecondition):
    """There is no room at {step}."""


class Elsewhere(Unavailable):
    """It is away."""


@dataclass
class World:
    """What other services would be: effects by saga and step, and what happens to those who ask."""

    db: Database
    refuses: str = ""  # Step that has no room.
    around: Callable[[str, Run], Awaitable[None]] | None = None  # Called before and after each effect.
    calls: list[tuple[UUID, str]] = field(default_factory=list)
    name: str = "journey"  # Of the kind; nobody takes up sagas of a kind they do not know.

    @property
    def kind(self) -> str:
        return f"{self.name} refused at {self.refuses}" if self.refuses else self.name

    def saga(self, timeout_s: float = 60.0, step_s: float = 5.0) -> Saga:
        """`confirm` changes rows of our own, in the record's transaction."""
        steps = [Step(name, self._does(name), self._undoes(name), step_s) for name in ("reserve", "pay")]
        confirm = Step("confirm", self._own("made"), self._own("taken back"), step_s)
        last = Step("tell", self._does("tell"), None, step_s)
        return Saga(self.kind, [*steps, confirm, last], timeout_s, until="confirm")

    def _does(self, name: str) -> Callable[[Run], Awaitable[Done]]:
        async def do(run: Run) -> Done:
            await self.meet(f"before {name}", run)
            if name == self.refuses:
                raise NoRoom(step=name)
            await self.db.execute(DO, run.saga_id, name, "do")
            await self.meet(f"after {name}", run)
            return Done({name: "done"})

        return do

    def _undoes(self, name: str) -> Callable[[Run], Awaitable[None]]:
        async def undo(run: Run) -> None:
            await self.meet(f"before undoing {name}", run)
            if await self.db.fetchval(
                "select true from world where saga_id = $1 and step = $2", run.saga_id, name
            ):
                await self.db.execute(DO, run.saga_id, name, "undo")
            await self.meet(f"after undoing {name}", run)

        return undo

    def _own(self, act: str) -> Callable[[Run], Awaitable[Done]]:
        async def do(run: Run) -> Done:
            await self.meet(f"before {act}", run)
            if self.refuses == act:
                raise NoRoom(step=act)

            async def change(tx: Any) -> None:
                await tx.execute(OWN, run.saga_id, act)

            return Done(change=change)

        return do

    async def meet(self, where: str, run: Run) -> None:
        self.calls.append((run.saga_id, where))
        if self.around:
            await self.around(where, run)

    async def seen(self, saga_id: UUID) -> list[tuple[str, str]]:
        """Effects, in the order in which they came to be."""
        return [(row["step"], row["act"]) for row in await self.db.fetch(SEEN, saga_id)]

    async def own(self, saga_id: UUID) -> list[str]:
        rows = await self.db.fetch("select act from own where saga_id = $1 order by n", saga_id)
        return [row["act"] for row in rows]

    async def begin(self, sagas: Sagas, saga_id: UUID) -> None:
        async with self.db.fast() as tx:
            await sagas.start(tx, Start(kind=self.kind, saga_id=saga_id, data={}, subject=str(saga_id)))


def complete(state: str, seen: Sequence[tuple[str, str]], own: Sequence[str]) -> bool:
    """Whether the saga ended as a whole: all of it is there, or each thing that was is undone, last first."""
    done = [step for step, act in seen if act == "do"]
    undone = [step for step, act in seen if act == "undo"]
    if state == "DONE":
        return done == ["reserve", "pay", "tell"] and not undone and list(own) == ["made"]
    kept = [step for step in done if step != "tell"]
    return state == "UNDONE" and undone == kept[::-1] and list(own) in ([], ["made", "taken back"])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def live_until(url: str, saga_id: str, point: str, refuses: str) -> None:
    """One process's life: begins a saga and dies at `point`."""
    db = Database(url)
    await db.open()

    async def around(where: str, run: Run) -> None:
        if where == point:
            die()

    world = World(db, refuses, around, name=point)
    if point.startswith("record"):
        _die_around_record(point)
    sagas = Sagas(db, Clock(), [world.saga(step_s=60.0)], "lab")  # Far beyond the test's patience.
    living = asyncio.create_task(sagas.run())
    while not sagas.living:  # noqa: ASYNC110 - a connection is opened
        await asyncio.sleep(0.001)
    await world.begin(sagas, UUID(saga_id))
    await sagas.resting(world.kind, UUID(saga_id))
    living.cancel()


def _die_around_record(point: str) -> None:
    """`record 3 before`, `record 3 within` its transaction, or `record 3 after` its commit."""
    _, number, when = point.split()
    record, move, records = Sagas._move, saga_runner.store.move, 0

    async def recording(self: Sagas, *rest: Any, **named: Any) -> Any:
        nonlocal records
        records += 1
        if records == int(number) and when == "before":
            die()
        recorded = await record(self, *rest, **named)
        if records == int(number) and when == "after":
            die()
        return recorded

    async def moving(*rest: Any) -> Any:
        moved = await move(*rest)
        if records == int(number) and when == "within":
            die()
        return moved

    Sagas._move = recording  # type: ignore[method-assign]
    saga_runner.store.move = moving


def life(url: str, saga_id: str, point: str, refuses: str) -> None:
    """In a process of its own."""
    asyncio.run(live_until(url, saga_id, point, refuses))


def faults(chance: random.Random) -> Callable[[str, Run], Awaitable[None]]:
    """Sometimes a call is lost on its way there or back, or takes too long."""

    async def around(where: str, run: Run) -> None:
        dice = chance.random()
        if dice < 0.15:
            raise Elsewhere
        if dice < 0.2:
            await asyncio.sleep(60)
        if dice < 0.3:
            await asyncio.sleep(0)

    return around
