"""What a killed worker held is somebody else's at once; what a living one holds stays its own."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from launcher import nats
from services.chassis.bus import Bus
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.publisher import Item, Publisher
from services.chassis.jetstream.pulling import Delivery, Place, Pull, like
from services.chassis.jetstream.servers import Options
from services.chassis.jetstream.stream import Record, Stream
from services.chassis.jobs import claims, presence, reaping
from services.chassis.jobs.claims import Journal, claimants
from services.chassis.jobs.presence import Presence, alive
from services.chassis.jobs.reaping import Reaper
from services.chassis.jobs.streams import ensure_queue, ensure_streams
from tests.chassis.waiting import until
from tests.jetstream.brokers import Broker, broker

SECRET = "secret"
Hold = Callable[..., Awaitable[Process]]


@pytest.fixture
def server(tmp_path: Path) -> Broker:
    """With the launcher's accounts: the end of a connection is told."""
    return broker(tmp_path / "nats", **nats.accounts(SECRET))


@pytest.fixture
def url(server: Broker) -> str:
    return f"nats://{nats.USER}:{SECRET}@127.0.0.1:{server.port}"


@pytest.fixture
async def bus(url: str) -> AsyncIterator[Bus]:
    opened = Bus(url)
    await opened.connect()
    await ensure_streams(opened)
    await ensure_queue(opened, "mails", 0)
    yield opened
    await opened.close()


@pytest.fixture
async def connection(bus: Bus, url: str) -> AsyncIterator[Connection]:
    opened = Connection(Options.of(url))
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def hold(connection: Connection, url: str) -> AsyncIterator[Hold]:
    """Starts workers that hold what they get; ends them with the test."""
    started: list[Process] = []

    async def start(worker: str, room: int, held: int) -> Process:
        command = [sys.executable, "-m", "tests.worker.holder", url, worker, str(room)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environ)
        started.append(process)
        assert process.stdout
        while held and int(await process.stdout.readline()) < held:
            pass
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def other(connection: Connection, bus: Bus) -> AsyncIterator["Other"]:
    made = Other(connection)
    yield made
    await made.close()


class Other:
    """The worker that is there when another dies."""

    def __init__(self, connection: Connection) -> None:
        self.held: dict[int, Delivery] = {}
        self.again: list[int] = []
        self.freed: list[str] = []
        self.journal = Journal(connection, "other")
        self.reaper = Reaper(connection, "other", self._freed)
        self._pull = Pull(connection, "jobs", "mails_m", self._take, 5_000)
        self._running = asyncio.create_task(self.reaper.run())

    def take(self) -> None:
        self._pull.start()

    def _take(self, came: list[Delivery]) -> None:
        self.journal.took(came)
        self.again += [each.sequence for each in came if each.sequence in self.held]
        self.held |= {each.sequence: each for each in came}

    async def _freed(self, worker: str) -> None:
        self.freed.append(worker)

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        await self._pull.stop()
        await self.journal.close()


async def enqueue(connection: Connection, count: int) -> None:
    await Publisher(connection).publish_all([Item("jobs.q.mails.m", b"%d" % n) for n in range(count)])


async def test_what_a_killed_worker_held_comes_to_another_long_before_its_ack_is_due(
    connection: Connection, hold: Hold, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "LOOK_EVERY_S", 60.0)  # It is the announcement that is heard.
    await enqueue(connection, 200)
    victim = await hold("victim", 200, held=200)
    other.take()
    await connection.flush()
    assert other.held == {}
    victim.kill()
    await until(lambda: len(other.held) == 200)
    assert {each.deliveries for each in other.held.values()} == {2}
    await until(lambda: other.freed)
    assert (other.freed, other.again) == (["victim"], [])
    assert await claimants(connection) == {"other"}


async def test_what_lay_in_a_killed_workers_socket_is_found_and_nothing_of_the_living_is_taken(
    connection: Connection, hold: Hold, other: Other
) -> None:
    await enqueue(connection, 100)
    victim = await hold("victim", 400, held=100)
    victim.send_signal(signal.SIGSTOP)
    await enqueue(connection, 150)  # These are delivered to it, and it will never know.

    async def delivered() -> bool:
        info = await connection.api("CONSUMER.INFO.jobs.mails_m")
        return bool(info["num_ack_pending"] == 250)

    await until(delivered)
    await hold("living", 100, held=0)
    await until(lambda: claimed_by(connection, "living"))
    await enqueue(connection, 200)  # 150 of them to the frozen one, which has room, or to the living.
    other.take()
    await connection.flush()
    before = set(other.held)
    victim.kill()
    await until(lambda: other.freed)
    living = await held_by(connection, "living")
    await until(lambda: len(other.held) + len(living) >= 450)
    assert set(other.held) | living == set(range(1, 451))
    assert not set(other.held) & living
    assert not set(other.again) & before


async def claimed_by(connection: Connection, worker: str) -> bool:
    return worker in await claimants(connection)


async def held_by(connection: Connection, worker: str) -> set[int]:
    """What it claims: it ends nothing."""
    records = await Stream(connection, "jobs-claims").lasts(claims.claimed(worker, "*"))
    replies = [reply for record in records for reply in record.payload.split(b"\n") if reply]
    return {Place.of(reply).sequence for reply in replies}


async def test_a_death_that_nobody_announced_is_noticed(
    connection: Connection, hold: Hold, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(reaping, "GONE_S", 0.3)
    monkeypatch.setattr(presence, "NAME", "somebody-")  # Not ours, so its end tells nothing.
    await enqueue(connection, 20)
    victim = await hold("victim", 20, held=20)
    other.take()
    await asyncio.sleep(0.3)  # Several looks at a living worker.
    assert other.held == {}
    victim.kill()
    await until(lambda: len(other.held) == 20)


async def test_who_was_away_for_a_moment_is_not_taken_for_dead(
    connection: Connection, url: str, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(reaping, "GONE_S", 60.0)
    Journal(connection, "living")  # It claims, and nobody answers, as while it looks for another server.
    await until(lambda: "living" in other.reaper._missed)
    there = Presence(connection, Options.of(url), "living")
    await there.open()
    await until(lambda: "living" not in other.reaper._missed)
    there._answering.end()  # Its other connection is still there: nothing is announced.
    await until(lambda: "living" in other.reaper._missed)
    other.reaper._forgive()
    assert (other.reaper._missed, other.freed) == ({}, [])
    monkeypatch.setattr(reaping, "GONE_S", 0.05)
    await until(lambda: other.freed == ["living"])
    await there.close()


def test_only_an_end_by_its_own_side_is_a_workers_death() -> None:
    def told(name: str, reason: str) -> str:
        return presence._worker(json.dumps({"client": {"name": name}, "reason": reason}).encode())

    assert told("weft-worker-w1", "Client Closed") == told("weft-worker-w1", "Read Error") == "w1"
    assert told("weft-worker-w1", "Server Shutdown") == told("weft", "Client Closed") == ""
    assert presence._worker(b"{") == presence._worker(b"[]") == ""


async def test_a_worker_that_only_lost_a_connection_keeps_what_it_holds(
    connection: Connection, url: str, other: Other
) -> None:
    options = Options.of(url)
    mine = Connection(options)
    await mine.open()
    there = Presence(mine, options, "living")
    await there.open()
    await there._line.close()  # Announced, and yet it answers.
    assert await alive(connection, "living", 1.0)
    other.reaper._suspect("living")
    await until(lambda: not other.reaper._busy)
    assert other.freed == []
    await there.close()
    await until(lambda: _gone(connection))
    await mine.close()


async def _gone(connection: Connection) -> bool:
    return await alive(connection, "living", 1.0) is False


async def test_two_who_see_a_death_give_back_once(connection: Connection, hold: Hold, other: Other) -> None:
    await enqueue(connection, 50)
    victim = await hold("victim", 50, held=50)
    freed: list[str] = []

    async def free(worker: str) -> None:
        freed.append(worker)

    reapers = [Reaper(connection, f"r{n}", free) for n in range(5)]
    other.take()
    victim.kill()
    await victim.wait()
    for reaper in reapers:
        reaper._suspect("victim")
    await until(lambda: len(other.held) == 50)
    await until(lambda: freed + other.freed)
    await until(lambda: not any(reaper._busy for reaper in [*reapers, other.reaper]))
    assert set(freed + other.freed) == {"victim"}  # Twice if a claim of it was late, which is no harm.
    assert other.again == []


async def test_a_claim_that_is_stored_while_the_dead_is_examined_is_given_back_too(
    connection: Connection, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enqueue(connection, 20)
    came: list[Delivery] = []
    pull = Pull(connection, "jobs", "mails_m", came.extend, 20)
    pull.start()
    await until(lambda: len(came) == 20)
    await pull.stop()
    Journal(connection, "victim")  # It never gets to say what it holds before it is looked at.
    read, late = other.reaper._claims.lasts, [b"\n".join(each.reply for each in came)]

    async def lasts(subjects: str) -> list[Record]:
        records = await read(subjects)
        if late:
            await connection.request(claims.claimed("victim", "0"), late.pop())
        return records

    monkeypatch.setattr(other.reaper._claims, "lasts", lasts)
    other.take()
    other.reaper._suspect("victim")
    await until(lambda: len(other.held) == 20)
    await until(lambda: other.freed)
    assert (other.again, await claimants(connection)) == ([], {"other"})


async def test_a_claim_lasts_as_long_as_something_of_it_is_held(connection: Connection, bus: Bus) -> None:
    await enqueue(connection, 30)
    came: list[Delivery] = []
    pull = Pull(connection, "jobs", "mails_m", came.extend, 100)
    pull.start()
    await until(lambda: len(came) == 30)
    journal = Journal(connection, "me")
    journal.took(came[:10])
    journal.took(came[10:20])
    await connection.flush()
    assert await held_by(connection, "me") == set(range(1, 21))
    journal.gave(came[:10])
    journal.gave(came[:10])
    journal.took(came[20:])
    await connection.flush()
    assert await held_by(connection, "me") == set(range(11, 31)), "the first list's place is used again"
    await journal.close()
    assert await claimants(connection) == set()
    await pull.stop()


async def test_claims_are_bounded_and_none_is_lost_by_that(
    connection: Connection, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "PLACES_MAX", 3)
    await enqueue(connection, 30)
    came: list[Delivery] = []
    pull = Pull(connection, "jobs", "mails_m", came.extend, 100)
    pull.start()
    await until(lambda: len(came) == 30)
    journal = Journal(connection, "me")
    for each in came:
        journal.took([each])
    await connection.flush()
    assert await held_by(connection, "me") == set(range(1, 31))
    await pull.stop()


async def test_claims_are_made_again_when_the_server_forgot_them(
    connection: Connection, bus: Bus, server: Broker
) -> None:
    await enqueue(connection, 5)
    came: list[Delivery] = []
    pull = Pull(connection, "jobs", "mails_m", came.extend, 100)
    pull.start()
    await until(lambda: len(came) == 5)
    journal = Journal(connection, "me")
    journal.took(came)
    await connection.flush()
    server.kill()
    server.start()
    await until(lambda: connection.connects == 2)
    await connection.flush()
    assert await held_by(connection, "me") == {1, 2, 3, 4, 5}
    await pull.stop()


def test_an_ack_subject_is_made_like_another() -> None:
    for reply in (b"$JS.ACK.S.C.1.2.3.4.5", b"$JS.ACK.hub.ACC.S.C.1.2.3.4.5.rnd"):
        made = like(reply, 77, 88)
        assert Place.of(made) == Place("C", 77)
        assert made.replace(b"77.88", b"2.3") == reply
