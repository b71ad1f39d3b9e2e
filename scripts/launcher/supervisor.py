"""The process that starts the mesh in order, keeps it running, and takes it down in order.

It is the parent of everything else, so nothing outlives it: every child is on a leash. It survives the
terminal. SIGTERM and SIGINT stop the mesh, a second one kills it; SIGUSR1 reads the restarts asked for.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

from launcher import ahead, archive, edge, layout, links, nats, paths, postgres, roster, state
from launcher.child import Child, Program
from launcher.credentials import Credentials
from launcher.pair import Pair, Server
from launcher.plan import Plan
from launcher.problem import Problem

LOG_BYTES_MAX = 20_000_000  # A log that is longer becomes the `.1` of its name; both together are its bound.
TIDY_EVERY_S = 30.0
DRAIN_S = 15.0  # The services give calls in flight 10 s.

log = logging.getLogger("weft.supervisor")


class Supervisor:
    """One mesh on this machine."""

    def __init__(self, plan: Plan, home: paths.Home) -> None:
        self._plan, self._home = plan, home
        self._state = state.State(os.getpid(), plan.ports.rows(), plan.edge, instances=plan.instances)
        names = roster.chosen(paths.root(), os.environ)
        self._credentials = Credentials.of(home.secrets, roster.services(paths.root()))
        self._groups = roster.groups(names, plan.processes, plan.ports, plan.instances or 1)
        self._linked = links.chosen()
        self._cluster = postgres.Cluster.of(home, plan.ports.postgres)
        self._pair = self._two() if plan.instances else None
        self._stop = asyncio.Event()
        self._founded = asyncio.Event()  # PostgreSQL and NATS are ready for the services.
        self._asked: set[asyncio.Task[None]] = set()
        self._children: dict[str, Child] = {}
        self._stores: list[str] = []  # PostgreSQL's and NATS's servers.
        self._declare()
        self._archive = archive.Keeper(home, self._cluster, self._credentials, self._state)

    def _two(self) -> Pair:
        """PostgreSQL as a primary and a replica."""
        ports = layout.servers(self._plan.ports)
        pair = Pair(self._home, ports, self._credentials, self._moved, self._changed)
        self._cluster = pair.primary.cluster
        self._state.primary = self._cluster.port
        return pair

    def _moved(self, cluster: postgres.Cluster) -> None:
        """Another PostgreSQL is the primary."""
        self._cluster, self._state.primary = cluster, cluster.port
        self._archive.move(cluster)
        self._changed()
        self._spawn(self._archive_anew())

    async def _archive_anew(self) -> None:
        """WAL of another primary is another line, which begins with a backup."""
        await self._archive.look()
        if not archive.current(self._home):
            return
        with self._home.log("supervisor").open("ab") as file:
            backup = await asyncio.create_subprocess_exec(
                sys.executable, sys.argv[0], "backup",
                stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        log.info("a backup begins a new line of WAL, exit code %d", await backup.wait())

    def _declare(self) -> None:
        """All children, not yet started."""
        ports, home = self._plan.ports, self._home
        if self._pair:
            self._declare_stores(self._pair)
        else:
            self._add("postgres", ports.postgres, self._postgres())
            self._add("nats", ports.nats, self._nats())
        if self._linked:
            self._add(links.COMPONENT, 0, self._links())
        self._stores = list(self._children)
        for group in self._groups:
            self._add(group.name, group.port, self._services(group), group.services)
        if self._plan.edge:
            envoy = Program(
                command=edge.command(home.path / "envoy"),
                log=home.log("edge"),
                unready=lambda: edge.unhealthy(ports.stats, self._served()),
            )
            self._add("edge", ports.edge, envoy)

    def _declare_stores(self, pair: Pair) -> None:
        """Those of a cluster."""
        for server in pair.servers:
            self._keep(server.shown, self._one_of(pair, server))
        members = layout.members(self._plan.ports)
        for member in members:
            folder = self._home.path / "nats"
            configuration = nats.write_member(folder, member, members, self._credentials)
            self._add(member.name, member.port, self._nats(member.name, member.monitor, configuration))

    def _add(self, name: str, port: int, program: Program, services: tuple[str, ...] = ()) -> None:
        self._keep(state.Component(name, port, services), program)

    def _keep(self, shown: state.Component, program: Program) -> None:
        self._state.components.append(shown)
        self._children[shown.name] = Child(shown, program, self._changed)

    def _provision(self) -> str:
        """SQL for what the services need."""
        return postgres.provision({name: self._credentials.databases[name] for name in self._served()})

    def _one_of(self, pair: Pair, server: Server) -> Program:
        """One PostgreSQL of a cluster."""
        sql, services = self._provision(), len(self._served()) * self._plan.instances
        return replace(
            self._postgres(),
            command=server.cluster.command(services, pair.settings(server)),
            log=self._home.log(server.name),
            unready=lambda: pair.unready(server, sql),
            before=lambda: pair.prepare(server),
            ended=lambda: pair.ended(server),
        )

    def _postgres(self) -> Program:
        sql = self._provision()
        return Program(
            command=self._cluster.command(len(self._served())),
            log=self._home.log("postgres"),
            unready=lambda: self._cluster.run_sql(sql, self._credentials),
            environ={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            account=self._cluster.account,
            stop=signal.SIGINT,  # Fast shutdown: sessions are ended, the cluster is left clean.
            stop_s=30.0,
            orphan=signal.SIGINT,
        )

    def _nats(self, name: str = "nats", monitor: int = 0, configuration: Path | None = None) -> Program:
        """The only server, or one of a cluster."""
        known = configuration or nats.write(self._home.path / "nats", self._plan.ports, self._credentials)
        return Program(
            command=nats.command(known),
            log=self._home.log(name),
            unready=_asking(monitor or self._plan.ports.monitor, "/healthz"),
            orphan=signal.SIGTERM,
        )

    def _links(self) -> Program:
        ports = self._plan.ports
        return Program(
            command=links.command(self._home, self._groups, ports),
            log=self._home.log(links.COMPONENT),
            unready=lambda: links.unready(self._groups, ports),
        )

    def _services(self, group: roster.Group) -> Program:
        told = layout.environment if self._plan.instances else roster.environment
        environ = told(group, self._plan.ports, self._credentials, os.environ)
        if self._linked:
            environ = links.environment(environ, self._groups.index(group), self._plan.ports)
            environ[links.CLOCK] = str(links.clock(self._home, group.name))
        return Program(
            command=[sys.executable, "-P", ahead.__file__, *group.services],
            log=self._home.log(group.name),
            unready=_asking(group.metrics, "/ready"),
            environ=environ,
            stop_s=DRAIN_S,
            after=self._founded,
        )

    def _served(self) -> list[str]:
        return [name for group in self._groups if group.instance == 1 for name in group.services]

    def _changed(self) -> None:
        self._state.write(self._home)

    async def run(self) -> int:
        """Until it is told to stop. The exit code is 1 when the mesh could not be started."""
        self._listen()
        self._changed()
        beside = [asyncio.create_task(self._tidy())]
        if self._pair:
            beside.append(asyncio.create_task(self._pair.watch()))
        start = asyncio.create_task(self._start())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            self._judge(start)
        await stop
        for task in (*beside, start):
            task.cancel()
        await self._down()
        return 1 if self._state.problem else 0

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told)
        loop.add_signal_handler(signal.SIGUSR1, self._read_requests)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _told(self) -> None:
        if self._stop.is_set():
            for child in self._children.values():
                child.kill()
        self._stop.set()

    def _judge(self, start: asyncio.Task[None]) -> None:
        """What came of the start."""
        error = start.exception()
        if error is None:
            self._state.phase = state.SERVING
            log.info("serving")
        else:
            self._state.problem = _problem(error)
            log.error("the mesh could not be started: %s", self._state.problem[0], exc_info=error)
            self._stop.set()
        self._changed()

    async def _start(self) -> None:
        """Everything in order, and at the same time what can be."""
        databases = [name for name in self._stores if name.startswith("postgres")]
        for early, child in self._children.items():
            if early not in {*databases, "edge"}:
                child.begin()
        opened = asyncio.create_task(self._open_edge())
        self._note("postgres", "makes its cluster" if not self._cluster.data.exists() else "")
        new = await asyncio.to_thread(self._cluster.make, self._credentials)
        for name in databases:
            self._children[name].begin()
        later = self._pair.other.name if self._pair else ""  # Nobody calls the replica.
        for name in self._stores:
            if name != later:
                await self._children[name].ready.wait()
        self._founded.set()
        synced = asyncio.create_task(asyncio.to_thread(self._cluster.sync)) if new else None
        await opened
        for child in self._children.values():
            await child.ready.wait()
        if synced:
            await synced
        await self._archive.look()

    def _note(self, name: str, note: str) -> None:
        shown = self._children[name].shown
        shown.phase, shown.note = state.STARTING, note
        self._changed()

    async def _open_edge(self) -> None:
        """Envoy comes up beside the services, and waits for their health by itself."""
        if self._plan.edge:
            await self._write_edge()
            self._children["edge"].begin()

    async def _write_edge(self) -> None:
        """Envoy's configuration, unless what it is made from is as it was. Raises Problem."""
        self._note("edge", "writes its configuration")
        folder = self._home.path / "envoy"
        found = links.from_the_edge(self._groups) if self._linked else self._groups
        told = edge.write_settings(folder, self._home.path, found, self._plan.ports)
        mark, known = edge.fingerprint(told), folder / "fingerprint"
        if known.exists() and known.read_text() == mark:
            return
        known.unlink(missing_ok=True)
        with self._home.log("edge").open("ab") as file:
            writer = await asyncio.create_subprocess_exec(
                *edge.generate(folder, told), stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
            )
        code = await writer.wait()
        log.info("edge: configuration written, exit code %d", code)
        if code:
            raise Problem("the edge's configuration could not be written", "see `scripts/weft logs edge`")
        known.write_text(mark)

    async def _down(self) -> None:
        """The services first, while all they need is there; then what they stood on."""
        self._state.phase = state.STOPPING
        self._changed()
        if self._pair:
            self._pair.stop()
        served = [self._children[group.name] for group in self._groups]
        await asyncio.gather(*(child.end() for child in served))
        await self._archive.mark()
        others = [child for child in self._children.values() if child not in served]
        await asyncio.gather(*(child.end() for child in others))
        await self._archive.end()
        self._state.phase = state.FAILED if self._state.problem else state.STOPPED
        self._changed()

    def _read_requests(self) -> None:
        for file in self._home.requests.iterdir():
            file.unlink(missing_ok=True)
            if file.name in {archive.LOOK, archive.COMPONENT}:
                look = self._archive.look if file.name == archive.LOOK else self._archive.restart
                self._spawn(look())
            elif child := self._children.get(file.name):
                log.info("restarts %s as asked", file.name)
                self._spawn(child.restart())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _tidy(self) -> None:
        """Keeps every log, and the archive, within its bound. Writers append, so that a log can be emptied
        under them."""
        while True:
            for file in self._home.logs.glob("*.log"):
                if file.stat().st_size > LOG_BYTES_MAX:
                    await asyncio.to_thread(shutil.copyfile, file, file.with_suffix(".log.1"))
                    os.truncate(file, 0)
            if self._state.phase == state.SERVING:
                await self._archive.look()
            await asyncio.sleep(TIDY_EVERY_S)


def _asking(port: int, path: str) -> Callable[[], str]:
    return lambda: "" if edge.answer(port, path) == edge.OK else "starts"


def _problem(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Problem):
        return (error.what, error.way_out)
    return (f"{type(error).__name__}: {error}", "see `scripts/weft logs supervisor`")


def supervise(arguments: Namespace) -> int:
    """Runs the plan. 3 when another supervisor has the data folder."""
    home = paths.Home.of()
    home.make()
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    os.chdir(paths.root())
    os.umask(0o077)
    with state.holding(home) as alone:
        if not alone:
            return 3
        return asyncio.run(_run(Plan.read(arguments.plan), home))


async def _run(plan: Plan, home: paths.Home) -> int:
    try:
        supervisor = Supervisor(plan, home)
    except Problem as problem:
        failed = state.State(
            os.getpid(), plan.ports.rows(), plan.edge, state.FAILED, (problem.what, problem.way_out)
        )
        failed.write(home)
        return 1
    return await supervisor.run()
