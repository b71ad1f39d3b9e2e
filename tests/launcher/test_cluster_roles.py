"""In which order roles are written down and servers are told: what a kill between two steps relies on."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher import pair, replica, state
from launcher.account import Account
from launcher.credentials import Credentials
from launcher.pair import Pair
from launcher.paths import Home
from launcher.problem import Problem
from launcher.roles import Roles
from tests.chassis.waiting import until

IN_STEP, ALONE = Roles(0, in_step=True), Roles(0, in_step=False)


@dataclass
class Stand:
    """Servers that do at once what they are told, and what that was, with the roles at that time."""

    home: Home
    told: list[tuple[str, Roles]] = field(default_factory=list)
    follows: bool = True
    answers: bool = True
    names: str = ""
    fenceable: bool = True

    def roles(self) -> Roles:
        return Roles.read(pair.file(self.home)) or Roles()

    def note(self, what: str) -> None:
        self.told.append((what, self.roles()))


@dataclass
class Server:
    """Stands for one Cluster."""

    place: int
    stand: Stand
    account: Account = field(default_factory=lambda: Account(os.geteuid(), os.getegid(), "us"))

    @property
    def port(self) -> int:
        return 26_005 + self.place

    @property
    def data(self) -> Path:
        return self.stand.home.path / pair.SERVERS[self.place]

    def query(self, sql: str, secret: Credentials, *, timeout_s: float | None = None) -> str:
        answers: dict[str, Callable[[], str]] = {
            "select 'up'": lambda: f"up|{'0' if self.stand.follows else ''}|{self.stand.names}",
            "select current_setting": lambda: self.stand.names,
            "select pg_current_wal_flush_lsn": lambda: "0/1",
            "select 't'": lambda: "t" if self.stand.follows else "",
            pair.RECOVERS: lambda: "f",
        }
        if sql == pair.PROMOTE:
            self.stand.note(f"promote {self.place}")
        found = next((answer for begin, answer in answers.items() if sql.startswith(begin)), None)
        return found() if found and self.stand.answers else ""

    def run_sql(self, sql: str, secret: Credentials) -> str:
        if not self.stand.answers:
            return "nobody listens"
        if replica.NAMES in sql:
            self.stand.names = "" if "reset" in sql else "weft_2"
            self.stand.note("wait for nobody" if "reset" in sql else "wait")
        else:
            self.stand.note(sql)
        return ""


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    made = Stand(Home(tmp_path))

    def fence(data: Path) -> int:
        if not made.fenceable:
            raise Problem("does not end", "wait")
        made.note(f"fence {data.name}")
        return 0

    monkeypatch.setattr(pair, "fence", fence)
    monkeypatch.setattr(pair, "clusters", lambda home, ports: [Server(place, made) for place in (0, 1)])
    for name in pair.SERVERS:
        (tmp_path / name).mkdir()
    return made


def begun(stand: Stand, roles: Roles) -> Pair:
    """Both run, and the file says so."""
    roles.write(pair.file(stand.home))
    secret = Credentials.of(stand.home.path / "secrets.json", [])
    two = Pair(stand.home, (26_005, 26_006), secret, lambda cluster: stand.note("moved"), lambda: None)
    for each in two.servers:
        each.ended, each.shown.phase, each.shown.pid = False, state.READY, 1
    stand.names = "weft_2" if roles.in_step else ""
    return two


async def test_the_primary_is_fenced_then_the_other_written_down_then_promoted(stand: Stand) -> None:
    two = begun(stand, IN_STEP)
    await two.ended(two.servers[0])
    promoted = Roles(1, in_step=False)
    assert stand.told == [("fence postgres", IN_STEP), ("promote 1", promoted), ("moved", promoted)]
    assert [each.shown.role for each in two.servers] == [pair.BEHIND, pair.PRIMARY]


async def test_what_cannot_be_fenced_is_followed_by_nobody(stand: Stand) -> None:
    two, stand.fenceable = begun(stand, IN_STEP), False
    with pytest.raises(Problem):
        await two.ended(two.servers[0])
    assert stand.told == []
    assert stand.roles() == IN_STEP


async def test_a_replica_that_may_lack_something_never_takes_over(stand: Stand) -> None:
    two = begun(stand, ALONE)
    await two.ended(two.servers[0])
    assert stand.told == []
    assert two.primary is two.servers[0]


async def test_two_that_die_together_come_back_as_they_were(stand: Stand) -> None:
    two = begun(stand, IN_STEP)
    two.servers[1].ended = True
    await two.ended(two.servers[0])
    assert stand.told == []
    assert stand.roles() == IN_STEP


async def test_it_is_written_that_a_replica_is_out_of_step_before_commits_go_on(stand: Stand) -> None:
    two = begun(stand, IN_STEP)
    await two.ended(two.servers[1])
    assert stand.told == [("wait for nobody", ALONE)]


async def test_commits_wait_and_a_checkpoint_has_passed_before_a_replica_is_in_step(stand: Stand) -> None:
    two = begun(stand, ALONE)
    await two._look()
    assert stand.told == [("wait", ALONE), ("checkpoint", ALONE)]
    assert stand.roles() == IN_STEP


async def test_commits_go_on_when_the_replica_has_been_missed_some_times(stand: Stand) -> None:
    two, stand.follows = begun(stand, IN_STEP), False
    for _ in range(pair.MISSING_AFTER - 1):
        await two._look()
    assert stand.told == []
    await two._look()
    assert stand.told == [("wait for nobody", ALONE)]
    for _ in range(pair.STUCK_AFTER - pair.MISSING_AFTER):
        await two._look()
    assert stand.told[-1] == ("fence postgres-2", ALONE)


async def test_a_primary_that_stays_silent_is_killed(stand: Stand) -> None:
    two = begun(stand, IN_STEP)
    for stand.answers in (*[False] * (pair.HUNG_AFTER - 1), True, *[False] * (pair.HUNG_AFTER - 1)):
        await two._look()
    assert stand.told == [], "one answer is enough to begin counting anew"
    await two._look()
    assert stand.told == [("fence postgres", IN_STEP)]


async def test_a_silent_primary_is_left_alone_when_nobody_can_take_over(stand: Stand) -> None:
    two, stand.answers = begun(stand, ALONE), False
    for _ in range(3 * pair.HUNG_AFTER):
        await two._look()
    assert stand.told == []


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[OSError]:
    """As many times as there are errors in it, nothing can be written down."""
    write, errors = Roles.write, list[OSError]()

    def written(roles: Roles, path: Path) -> None:
        if errors:
            raise errors.pop()
        write(roles, path)

    monkeypatch.setattr(Roles, "write", written)
    monkeypatch.setattr(pair, "LOOK_EVERY_S", 0.01)
    return errors


async def test_a_disk_that_is_full_for_a_moment_ends_no_watch(stand: Stand, full: list[OSError]) -> None:
    two = begun(stand, ALONE)
    full.append(OSError(28, "No space left on device"))
    watching = asyncio.create_task(two.watch())
    await until(lambda: stand.roles() == IN_STEP)
    watching.cancel()


async def test_commits_go_on_alone_only_when_that_is_written_down(stand: Stand, full: list[OSError]) -> None:
    two, stand.follows = begun(stand, IN_STEP), False
    full += [OSError(28, "No space left on device")] * 2
    watching = asyncio.create_task(two.watch())
    await until(lambda: stand.told)
    watching.cancel()
    assert stand.told[0] == ("wait for nobody", ALONE)


async def test_a_stop_hands_nothing_over(stand: Stand) -> None:
    two = begun(stand, IN_STEP)
    two.stop()
    await two.ended(two.servers[0])
    assert stand.told == []


async def test_a_primary_whose_data_is_gone_is_not_made_anew(stand: Stand) -> None:
    (stand.home.path / pair.SERVERS[0]).rmdir()
    with pytest.raises(Problem, match="says that it is the primary's"):
        begun(stand, ALONE)
