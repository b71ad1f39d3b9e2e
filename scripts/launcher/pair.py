"""Two PostgreSQL servers, of which one is written to and the other has the same: who is which, and when.

Commits wait for the replica (`Roles.in_step`) while it follows. When the primary ends, all of it is killed,
the replica's role is written down, and it is promoted; the former primary comes back as its replica. When
the replica ends, or falls silent, that is written down first, and then commits go on without it. One process
decides all of this, and is the parent of both, so there is nobody to disagree with.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import replica, state
from launcher.credentials import Credentials
from launcher.fencing import fence
from launcher.paths import Home
from launcher.postgres import Cluster
from launcher.problem import Problem
from launcher.roles import Roles

LOOK_EVERY_S = 1.0
LOOK_S_MAX = 2.0  # A primary that takes longer to answer `select` was silent once.
HUNG_AFTER = 5  # Looks in a row: a machine that is busy for a moment costs no failover.
MISSING_AFTER = 3  # Looks in a row without the replica, until commits no longer wait for it.
STUCK_AFTER = 20  # The same, until a replica that runs but does not follow is killed and begun anew.
STARTING_MAX = 300  # The same, of one that still starts: it may have much to replay.
TROUBLES_MAX = 3  # Ends of a replica without ever following, until it is copied anew.
NEAR_BYTES = 16 * 1024**2  # Commits begin to wait for a replica that is so close.
JOIN_S_MAX, PROMOTE_S_MAX = 5.0, 30.0
POLL_S = 0.05
SERVERS = ("postgres", "postgres-2")
PRIMARY, IN_STEP, BEHIND = "primary", "replica, in step", "replica, not in step"

RECOVERS = "select pg_is_in_recovery()"
PROMOTE = "select pg_promote(false)"
NOBODY = f"alter system reset {replica.NAMES};\nselect pg_reload_conf();"

log = logging.getLogger("weft.supervisor")


@dataclass
class Server:
    """One of the two."""

    place: int
    name: str  # Of its component.
    cluster: Cluster
    shown: state.Component
    ended: bool = True  # Nobody has seen it at work since it ended, or at all.

    @property
    def called(self) -> str:
        """What PostgreSQL calls it."""
        return f"weft_{self.place + 1}"


def file(home: Home) -> Path:
    return home.path / "cluster.json"


def clusters(home: Home, ports: tuple[int, int]) -> list[Cluster]:
    first = Cluster.of(home, ports[0])
    return [first, replace(first, data=second(first), port=ports[1])]


def second(first: Cluster) -> Path:
    """Where the other server's files are."""
    return first.data.with_name(SERVERS[1])


def lag(other: str) -> str:
    """SQL: bytes of WAL that the replica of that name does not have yet; nothing if it does not follow."""
    return (
        "select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn)::bigint from pg_stat_replication "
        f"where application_name = '{other}' and state = 'streaming'"
    )


class Pair:
    """Both servers; `moved` is called when another one is the primary, `changed` when there is news."""

    def __init__(
        self,
        home: Home,
        ports: tuple[int, int],
        secret: Credentials,
        moved: Callable[[Cluster], None],
        changed: Callable[[], None],
    ) -> None:
        self._file, self._secret = file(home), secret
        self._moved, self._changed = moved, changed
        self.servers = [
            Server(place, name, cluster, state.Component(name, cluster.port))
            for place, (name, cluster) in enumerate(zip(SERVERS, clusters(home, ports), strict=True))
        ]
        known = Roles.read(self._file)
        self._roles = known or Roles()
        self._anew = known is None  # What lies in the other's place is not of this cluster.
        self._silent = self._missing = self._troubles = 0
        self._turn, self._stopping = asyncio.Lock(), asyncio.Event()
        if known and not self.primary.cluster.data.exists():
            raise Problem(
                f"{self.primary.cluster.data} is not there, and {self._file} says that it is the primary's",
                "bring it back; or `scripts/weft restore`, or `scripts/weft reset`",
            )
        self._show()

    @property
    def primary(self) -> Server:
        return self.servers[self._roles.primary]

    @property
    def other(self) -> Server:
        return self.servers[1 - self._roles.primary]

    def settings(self, server: Server) -> dict[str, str]:
        """What it is started with."""
        return replica.settings(self.servers[1 - server.place].cluster, server.called)

    def stop(self) -> None:
        """Decides nothing any more: whatever ends now was told to."""
        self._stopping.set()

    async def prepare(self, server: Server) -> None:
        """Before each start of it. Raises Problem."""
        replica.write_pass_file(server.cluster, self._secret)
        if server is self.primary:
            if not self._roles.in_step:  # It would wait for one that may lack what it has.
                replica.forget_names(server.cluster.data)
            if not self._file.exists():
                self._write(self._roles)
            return
        await asyncio.to_thread(fence, server.cluster.data)  # Of a supervisor that was killed, say.
        source = self.primary.cluster
        while await self._ask(RECOVERS) != "f":
            if self._stopping.is_set():
                raise Problem("the mesh stops", "")
            await asyncio.sleep(POLL_S)
        anew = self._anew or self._troubles >= TROUBLES_MAX
        how = await asyncio.to_thread(replica.follow, server.cluster, source, self._secret, anew=anew)
        self._anew, self._troubles, self._missing = False, 0 if anew else self._troubles, 0
        log.info("%s %s", server.name, how)

    def unready(self, server: Server, provision: str) -> str:
        """What it still waits for; empty when it can do its part. Runs in a thread."""
        if server is not self.primary:
            return "" if self._roles.in_step else "catches up"
        if server.cluster.query(RECOVERS, self._secret) == "t":  # A kill came before its promotion.
            server.cluster.query(PROMOTE, self._secret)
            return "is promoted"
        why = server.cluster.run_sql(provision, self._secret)
        server.ended = bool(why)
        return why

    async def ended(self, server: Server) -> None:
        """Its process is gone, and nobody told it to go for good."""
        server.ended = True
        async with self._turn:
            if self._stopping.is_set():
                return
            if server is self.other:
                self._troubles += 1
                await self._part("it ended")
            elif self._roles.in_step and not self.other.ended:
                await self._hand_over()
            else:
                log.warning("%s is started again, as there is no replica in step", server.name)

    async def watch(self) -> None:
        """Until it is cancelled."""
        while not self._stopping.is_set():
            async with self._turn:
                try:
                    await self._look()
                except (Problem, OSError) as error:
                    log.warning("PostgreSQL's two: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        """One look at both."""
        sql = f"select 'up', ({lag(self.other.called)}), current_setting('{replica.NAMES}')"
        up, _, rest = (await self._ask(sql)).partition("|")
        if not up:
            await self._no_answer()
            return
        self._silent = 0
        behind, _, names = rest.partition("|")
        if not behind:
            await self._no_replica(waited_for=bool(names))
            return
        self._missing = self._troubles = 0
        self.other.ended = False
        if not self._roles.in_step and int(behind) <= NEAR_BYTES:
            await self._join()

    async def _no_answer(self) -> None:
        """The primary said nothing. One that starts, or has ended, is somebody else's to see."""
        if self.primary.shown.phase != state.READY or not self._may_hand_over():
            self._silent = 0
            return
        self._silent += 1
        if self._silent >= HUNG_AFTER:
            log.error("%s has not answered %d times in a row: it is killed", self.primary.name, self._silent)
            self._silent = 0
            await asyncio.to_thread(fence, self.primary.cluster.data)

    async def _no_replica(self, *, waited_for: bool) -> None:
        """The primary runs and nobody follows it."""
        self._missing += 1
        if self._missing >= MISSING_AFTER and (waited_for or self._roles.in_step):
            await self._part("it does not follow")
        patience = STUCK_AFTER if self.other.shown.phase == state.READY else STARTING_MAX
        if self._missing >= patience and self.other.shown.pid:
            log.error("%s runs and does not follow: it is killed", self.other.name)
            self._missing = 0
            await asyncio.to_thread(fence, self.other.cluster.data)

    def _may_hand_over(self) -> bool:
        return self._roles.in_step and not self.other.ended

    async def _join(self) -> None:
        """Has commits wait for the replica, and when it has all that came before, writes down so.

        A checkpoint is what tells that the waiting has begun: who connects after the reload is of a
        postmaster that has told everybody, and the checkpointer reads what it is told before it begins one.
        """
        primary, other = self.primary.cluster, self.other
        names = f"alter system set {replica.NAMES} = '{other.called}';\nselect pg_reload_conf();"
        await asyncio.to_thread(primary.run_sql, names, self._secret)
        setting = f"select current_setting('{replica.NAMES}')"
        told = await self._until(setting, other.called, JOIN_S_MAX, *self.servers)
        if told and not await asyncio.to_thread(primary.run_sql, "checkpoint", self._secret):
            end = await self._ask("select pg_current_wal_flush_lsn()")
            has = f"application_name = '{other.called}' and flush_lsn >= '{end}'"
            sql = f"select 't' from pg_stat_replication where {has}"
            if end and await self._until(sql, "t", JOIN_S_MAX, *self.servers):
                self._write(replace(self._roles, in_step=True))
                log.info("%s is in step: commits wait for it", other.name)
                return
        await self._part("it does not keep up")

    async def _part(self, why: str) -> None:
        """Commits go on without the replica, which may not become the primary from before that on."""
        if self._roles.in_step:
            log.warning("%s is out of step, %s: commits do not wait for it", self.other.name, why)
            self._write(replace(self._roles, in_step=False))
        await asyncio.to_thread(self.primary.cluster.run_sql, NOBODY, self._secret)

    async def _hand_over(self) -> None:
        """The replica, which has every acknowledged commit, becomes the primary."""
        began, former, new = time.monotonic(), self.primary, self.other
        killed = await asyncio.to_thread(fence, former.cluster.data)
        self._write(Roles(new.place, in_step=False))
        self._silent = self._missing = self._troubles = 0
        await asyncio.to_thread(new.cluster.query, PROMOTE, self._secret)
        await self._until(RECOVERS, "f", PROMOTE_S_MAX, new)
        self._moved(new.cluster)
        words = "%s is the primary after %.2f s; of %s %d processes were left and killed"
        log.warning(words, new.name, time.monotonic() - began, former.name, killed)

    def _write(self, roles: Roles) -> None:
        roles.write(self._file)  # First: what could not be written down is not so.
        self._roles = roles
        self._show()
        self._changed()

    def _show(self) -> None:
        self.primary.shown.role = PRIMARY
        self.other.shown.role = IN_STEP if self._roles.in_step else BEHIND

    async def _until(self, sql: str, answer: str, seconds: float, *needed: Server) -> bool:
        """Whether the primary says so in time, and before one of those that are needed ends."""
        ends = time.monotonic() + seconds
        while await self._ask(sql) != answer:
            if time.monotonic() > ends or any(each.ended for each in needed):
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _ask(self, sql: str) -> str:
        """What the primary answers; empty when it does not."""
        ask = self.primary.cluster.query
        return await asyncio.to_thread(ask, sql, self._secret, timeout_s=LOOK_S_MAX)
