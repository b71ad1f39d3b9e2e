"""Two real PostgreSQL servers: whichever is killed, what was acknowledged is there, and both come back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher import layout, pair, postgres, state
from launcher.child import Child, Program
from launcher.credentials import Credentials
from launcher.pair import Pair, Server
from launcher.paths import Home
from launcher.ports import Ports
from launcher.roles import Roles
from services.chassis.db import Database
from services.chassis.errors import Refusal
from tests.chassis.waiting import until
from tests.servers import free_port

NAME = "alpha"
AGAIN_S = 0.02


@dataclass
class Two:
    """Both servers, kept as the supervisor keeps them, and somebody who writes all the time."""

    home: Home
    secret: Credentials
    ports: Ports
    pair: Pair
    children: list[Child]
    acknowledged: list[int] = field(default_factory=list)

    def kill(self, *places: int) -> None:
        for place in places:
            os.kill(self.children[place].shown.pid or 0, signal.SIGKILL)

    async def in_step(self) -> None:
        await until(lambda: Roles.read(pair.file(self.home)) == Roles(self.pair.primary.place, in_step=True))

    async def more(self) -> None:
        """Until something was acknowledged that was written after now, or nearly so."""
        count = len(self.acknowledged) + 2
        await until(lambda: len(self.acknowledged) > count)


def _program(servers: Pair, server: Server, home: Home, secret: Credentials) -> Program:
    sql = postgres.provision({NAME: secret.databases[NAME]})
    return Program(
        command=server.cluster.command(1, servers.settings(server)),
        log=home.log(server.name),
        unready=lambda: servers.unready(server, sql),
        environ={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
        account=server.cluster.account,
        stop=signal.SIGINT,
        orphan=signal.SIGINT,
        before=lambda: servers.prepare(server),
        ended=lambda: servers.ended(server),
    )


@asynccontextmanager
async def running(home: Home, ports: Ports) -> AsyncIterator[Two]:
    """Until the block ends, and then both are told to stop."""
    secret = Credentials.of(home.secrets, [NAME])
    servers = Pair(home, layout.servers(ports), secret, lambda cluster: None, lambda: None)
    servers.primary.cluster.make(secret)
    children = [
        Child(each.shown, _program(servers, each, home, secret), lambda: None) for each in servers.servers
    ]
    watching = asyncio.create_task(servers.watch())
    for child in children:
        child.begin()
    try:
        yield Two(home, secret, ports, servers, children)
    finally:
        servers.stop()
        await asyncio.gather(*(child.end() for child in children))
        watching.cancel()
        assert {child.shown.phase for child in children} == {state.STOPPED}


@asynccontextmanager
async def written(two: Two) -> AsyncIterator[Database]:
    """A service's database while somebody writes one number after the other, whatever comes."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in layout.servers(two.ports))
    password = two.secret.databases[NAME]
    db = Database(f"postgresql://{NAME}:{password}@{hosts}/{NAME}?target_session_attrs=read-write")
    await until(lambda: two.children[two.pair.primary.place].ready.is_set())
    await db.execute("create table if not exists kept (n int primary key)")
    writing = asyncio.create_task(_write(db, two.acknowledged))
    try:
        yield db
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        await db.close()


async def _write(db: Database, acknowledged: list[int]) -> None:
    n = len(acknowledged)
    while True:
        n += 1
        try:
            await db.execute("insert into kept values ($1)", n)
        except (Refusal, OSError):
            await asyncio.sleep(AGAIN_S)
        else:
            acknowledged.append(n)


async def lost(db: Database, acknowledged: list[int]) -> set[int]:
    return set(acknowledged) - {row["n"] for row in await db.fetch("select n from kept")}


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("WEFT_POSTGRES_OPTIONS", "fsync=off")  # Processes die here, the kernel does not.
    home = Home(folder / "home")
    home.make()
    return home


async def take_over(two: Two, db: Database) -> None:
    """The first is killed while it is written to, and the second goes on with all of it."""
    await two.in_step()
    await two.more()
    two.kill(0)
    await until(lambda: two.pair.primary.place == 1)
    await two.more()
    assert not await lost(db, two.acknowledged)
    assert two.pair.primary.shown.role == pair.PRIMARY


@pytest.mark.timeout(120)
async def test_a_replica_that_is_in_step_has_all_that_was_acknowledged(home: Home) -> None:
    ports = Ports(postgres=free_port(), cluster=free_port())
    async with running(home, ports) as two, written(two) as db:
        await take_over(two, db)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_whichever_dies_both_come_back_and_a_restart_knows_who_was_who(home: Home) -> None:
    ports = Ports(postgres=free_port(), cluster=free_port())
    async with running(home, ports) as two, written(two) as db:
        await take_over(two, db)

        await two.in_step()  # The former primary follows, and commits wait for it.
        two.kill(0)
        await until(lambda: two.pair.other.shown.role == pair.BEHIND)
        await two.more()
        await two.in_step()
        before = list(two.acknowledged)

    async with running(home, ports) as two:
        assert two.pair.primary.place == 1, "a restart knows who it was"
        async with written(two) as db:
            assert not await lost(db, before)
            await two.in_step()
