"""The mesh's life from outside: up, down, restart, reset."""

import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import fields

from launcher import (
    discovery,
    layout,
    leash,
    links,
    paths,
    postgres,
    preflight,
    progress,
    roster,
    state,
    undoing,
)
from launcher.credentials import Credentials
from launcher.paths import Home
from launcher.plan import Plan
from launcher.ports import HOST, Ports
from launcher.problem import Problem, say

UP_S_MAX = 120.0  # A start takes seconds; migrations of a large database may take longer.
DOWN_S_MAX = 60.0
POLL_S = 0.05
HELD_BY_ANOTHER = 3  # The supervisor's exit code when the data folder has one already.


def plan(arguments: Namespace) -> Plan:
    """What the flags and the environment ask for. Raises Problem."""
    flags = {each.name: getattr(arguments, f"{each.name}_port") for each in fields(Ports)}
    names = roster.chosen(paths.root(), os.environ)
    discovery.check(names, os.environ)
    wish = arguments.processes or os.environ.get("WEFT_PROCESSES", "")
    ports = Ports.chosen({**flags, "base": arguments.port_base}, os.environ)
    return Plan(ports, roster.processes(wish, len(names)), not arguments.no_edge, _instances(arguments))


def _instances(arguments: Namespace) -> int:
    """Of each process of services; 0 without a cluster. Raises Problem."""
    asked = arguments.instances
    if asked is not None and not arguments.cluster:
        raise Problem("--instances is for a cluster", "say --cluster, too")
    if asked is not None and not 1 <= asked <= layout.INSTANCES_MAX:
        raise Problem(f"--instances {asked} is not from 1 to {layout.INSTANCES_MAX}", "for example 2")
    if arguments.cluster and links.chosen():
        raise Problem(f"{links.CHOSEN} and --cluster: links lead to one server of each kind", "leave one out")
    return (asked or layout.INSTANCES) if arguments.cluster else 0


def up(arguments: Namespace) -> int:
    """Starts the mesh, unless it runs; waits until it is healthy."""
    home, wanted = Home.of(), plan(arguments)
    home.make()
    undoing.undo_if_left(home)
    if state.held(home):
        return _join(home)
    preflight.check(wanted, home, roster.chosen(paths.root(), os.environ))
    process = _launch(home, wanted, attached=arguments.foreground)
    try:
        _await_serving(home, process)
        _welcome(home)
        if arguments.foreground:
            process.wait()
    except KeyboardInterrupt:
        say("stopping")
        _stop(home, process.pid)
        return 130
    return process.returncode or 0 if arguments.foreground else 0


def _join(home: Home) -> int:
    """A second `up`: waits for the one that runs, and says where it is."""
    say("The mesh runs already.")
    _await_serving(home, None)
    _welcome(home)
    return 0


def _launch(home: Home, wanted: Plan, *, attached: bool) -> "subprocess.Popen[bytes]":
    """The supervisor, in a session of its own. Attached, it gets SIGTERM when this process dies."""
    command = [sys.executable, sys.argv[0], "supervise", wanted.written()]
    if attached:
        command = [
            sys.executable,
            "-I",
            "-S",
            leash.__file__,
            str(int(signal.SIGTERM)),
            str(os.getpid()),
            "-1",
            "-1",
            *command,
        ]
    home.state.unlink(missing_ok=True)
    with home.log("supervisor").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=paths.root(),
        )


def _await_serving(home: Home, process: "subprocess.Popen[bytes] | None") -> None:
    """Shows the start until all is healthy. Raises Problem, and then nothing is left running."""
    ends = time.monotonic() + UP_S_MAX
    with progress.shown() as display:
        while time.monotonic() < ends:
            seen = state.last(home)
            if seen:
                display.show(seen)
            if seen and seen.phase == state.SERVING:
                return
            if seen and (trouble := _trouble(seen)):
                break
            if process and process.poll() is not None and process.returncode != HELD_BY_ANOTHER:
                trouble = _trouble(state.last(home)) or Problem(
                    "the supervisor died", "see `scripts/weft logs supervisor`"
                )
                break
            time.sleep(POLL_S)
        else:
            trouble = Problem(f"the mesh is not healthy after {UP_S_MAX:.0f} s", "see `scripts/weft logs`")
    if seen := state.read(home):
        _stop(home, seen.pid)
    raise trouble


def _trouble(seen: state.State | None) -> Problem | None:
    """Why this start will come to nothing, if so."""
    if seen and seen.problem:
        return Problem(*seen.problem)
    for each in seen.components if seen else ():
        if each.phase == state.CRASHING:
            return Problem(
                f"{each.name} is crash-looping: {each.note}", f"see `scripts/weft logs {each.name}`"
            )
    return None


def _welcome(home: Home) -> None:
    """Where everything is, and what to try."""
    seen = state.read(home)
    if not seen:
        raise Problem("the mesh stopped", "see `scripts/weft logs supervisor`")
    secret = Credentials.of(home.secrets, [])
    ports = seen.ports
    if not seen.edge:
        say(f"\nServing without an edge: services on {HOST}:{ports['services']} and the ports behind it.")
        return
    edge, plain = f"https://{HOST}:{ports['edge']}", f"http://{HOST}:{ports['plain']}"
    certificate = home.path / "certificates" / "ca.crt"
    say(f"""
The mesh serves.
  Edge            {edge}  (gRPC, grpc-web, REST; its authority: {certificate})
  Without TLS     {plain}
  API, browsable  {plain}/docs
  First admin     {secret.admin_email}  {secret.admin_password}

Try
  curl --cacert {certificate} {edge}/.well-known/jwks.json
  scripts/weft demo
  scripts/weft status""")


def down(arguments: Namespace) -> int:
    """Stops the mesh."""
    home = Home.of()
    seen = state.read(home)
    if not seen:
        say("Nothing runs.")
        return 0
    _stop(home, seen.pid)
    say("The mesh is down.")
    return 0


def _stop(home: Home, pid: int) -> None:
    """SIGTERM, and until the lock is free. Raises Problem."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise Problem(
            f"the mesh belongs to another account (pid {pid})", "stop it as that account"
        ) from error
    ends = time.monotonic() + DOWN_S_MAX
    while state.held(home):
        if time.monotonic() > ends:
            raise Problem(
                f"the mesh has not stopped in {DOWN_S_MAX:.0f} s", f"`kill -9 {pid}` takes all of it down"
            )
        time.sleep(POLL_S)


def restart(arguments: Namespace) -> int:
    """Restarts one process, or each that hosts the service one after the other; waits until it is ready."""
    home = Home.of()
    for component in _running(home).every(arguments.service):
        _restart(home, component)
    return 0


def _restart(home: Home, component: state.Component) -> None:
    seen = _running(home)
    (home.requests / component.name).write_text("")
    os.kill(seen.pid, signal.SIGUSR1)
    ends = time.monotonic() + UP_S_MAX
    while time.monotonic() < ends:
        now = _running(home).find(component.name)
        if now.phase == state.READY and now.pid != component.pid:
            say(f"{component.name} restarted: pid {now.pid}")
            return
        time.sleep(POLL_S)
    raise Problem(f"{component.name} is not ready again", f"see `scripts/weft logs {component.name}`")


def reset(arguments: Namespace) -> int:
    """Stops the mesh and removes its data."""
    home = Home.of()
    if not home.path.exists():
        say(f"There is nothing in {home.path}.")
        return 0
    if not arguments.yes and not _agreed(f"Remove {home.path} with all databases, events and passwords?"):
        say("Nothing was removed.")
        return 1
    down(arguments)
    cluster = postgres.Cluster.of(home, 0)
    for folder in (home.path, cluster.apart):
        if folder:
            shutil.rmtree(folder, ignore_errors=False)
    say(f"{home.path} is gone; `scripts/weft up` begins anew.")
    return 0


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise Problem("there is nobody to ask", "say it with --yes")
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def _running(home: Home) -> state.State:
    if not (seen := state.read(home)):
        raise Problem("the mesh does not run", "`scripts/weft up` starts it")
    return seen
