"""Calls that no contract allows reach the audit trail: counted, by the minute, however many there are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis import trespass
from services.chassis.clock import FakeClock
from services.chassis.db import DatabaseAway
from services.chassis.testing import until
from services.chassis.trespass import KINDS_MAX, OTHERS, TELL_EVERY_S, Trespasses

RPC = "weft.demo.v1.DemoService/Do"


class Outbox:
    """Stands for a service's database, and for what is emitted in it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int]] = []
        self.away = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        if self.away:
            raise DatabaseAway
        yield self

    async def emit(self, _: Any, event: Any) -> None:
        self.told.append((event.caller, event.rpc, event.calls))

    def has(self, count: int) -> Callable[[], Awaitable[bool]]:
        async def so() -> bool:
            return len(self.told) >= count

        return so


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    outbox, clock = Outbox(), FakeClock()
    monkeypatch.setattr(trespass, "emit", outbox.emit)
    trespasses = Trespasses(clock)
    trespasses.tell_in(outbox, ["weft.demo.v1.DemoService"])  # type: ignore[arg-type]
    running = asyncio.create_task(trespasses.run())
    yield SimpleNamespace(outbox=outbox, clock=clock, trespasses=trespasses)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def minute(stage: Any) -> None:
    """Lets one pass, once the round before it is done."""
    await turns()
    stage.clock.advance(TELL_EVERY_S)
    await turns()


async def turns() -> None:
    """Whatever can go on now does; nothing here waits for anything but the clock."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_first_is_told_at_once_and_the_rest_of_the_minute_together(stage: Any) -> None:
    stage.trespasses.note("cart", f"/{RPC}")
    await until(stage.outbox.has(1))
    for _ in range(100):
        stage.trespasses.note("cart", f"/{RPC}")
        await turns()
        assert len(stage.outbox.told) == 1
    await minute(stage)
    await minute(stage)
    await minute(stage)
    assert stage.outbox.told == [("cart", RPC, 1), ("cart", RPC, 100)]


async def test_what_cannot_be_told_is_told_later(stage: Any) -> None:
    stage.outbox.away = True
    stage.trespasses.note("cart", f"/{RPC}")
    await minute(stage)
    stage.trespasses.note("cart", f"/{RPC}")
    stage.outbox.away = False
    await minute(stage)
    assert stage.outbox.told == [("cart", RPC, 2)]


async def test_who_invents_names_is_not_told_apart_for_ever(stage: Any) -> None:
    for number in range(KINDS_MAX + 50):
        stage.trespasses.note(f"ghost-{number}" + "x" * 100, f"/{RPC}")
    await until(stage.outbox.has(KINDS_MAX + 1))
    told = {caller: calls for caller, _, calls in stage.outbox.told}
    assert (len(told), told[OTHERS]) == (KINDS_MAX + 1, 50)
    assert max(map(len, told)) == 63
