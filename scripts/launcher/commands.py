"""The commands of `scripts/weft`: their words, their help, and the environment each needs."""

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module

from launcher import paths
from launcher.environment import DEV, RUN, Environment
from launcher.ports import Ports, variable
from launcher.problem import Problem, warn

EPILOG = """\
Variables: WEFT_HOME (data folder, default .weft), WEFT_VENV (environment, default .venv),
WEFT_PROCESSES, WEFT_SERVICES (a,b: only these), WEFT_PORT_BASE,
WEFT_<NAME>_PORT, WEFT_POSTGRES_USER (when started as root), WEFT_CHAOS=1 (links that
`weft chaos` can cut and slow, clocks that it can move),
WEFT_POSTGRES_OPTIONS ("NAME=VALUE ..."), WEFT_NATS_SYNC (default always; 10s: a power cut may
cost 10 s of streams), WEFT_BACKUPS_KEPT (default 7), WEFT_ARCHIVE_GB_MAX (default 20).
Everything listens on 127.0.0.1 only."""


@dataclass(frozen=True)
class Command:
    """One word after `scripts/weft`."""

    help: str
    does: str  # module:function within the launcher
    lock: str | None = RUN  # What the environment must satisfy; None: whatever there is will do.
    shape: Callable[[ArgumentParser], None] = lambda parser: None
    rest: bool = False  # Hands unknown words on to the program it runs.


def _up(parser: ArgumentParser) -> None:
    parser.add_argument("--foreground", action="store_true", help="stay attached; Ctrl-C stops the mesh")
    parser.add_argument("--processes", metavar="N|each", help="of services; default: the cores to spare")
    parser.add_argument(
        "--cluster", action="store_true", help="three NATS, two PostgreSQL, each process of services twice"
    )
    parser.add_argument("--instances", type=int, metavar="N", help="of each process in a cluster (default 2)")
    parser.add_argument("--no-edge", action="store_true", help="PostgreSQL, NATS and the services only")
    parser.add_argument("--port-base", type=int, metavar="N", help="move all ports: edge N, plain N+1, ...")
    for each in fields(Ports):
        sentence = f"{each.metadata['doc']} (default {each.default}, {variable(each.name)})"
        parser.add_argument(f"--{each.name}-port", type=int, metavar="N", help=sentence)


def _status(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _logs(parser: ArgumentParser) -> None:
    parser.add_argument("service", nargs="?", help="a service, or a part: postgres, nats, edge, supervisor")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    parser.add_argument("-n", "--lines", type=int, default=200, metavar="N", help="of each log (default 200)")


def _service(parser: ArgumentParser) -> None:
    parser.add_argument("service", help="a service, or a part: postgres, nats, edge")


def _reset(parser: ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _backup(parser: ArgumentParser) -> None:
    folder = "where it and the WAL from then on are kept; remembered (default: backups/ in the data folder)"
    parser.add_argument("--to", metavar="FOLDER", help=folder)


def _restore(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--at", required=True, metavar="TIME", help="2026-11-21T23:10:00Z; or `latest`, all that was archived"
    )
    parser.add_argument("--from", dest="source", metavar="FOLDER", help="where backups are")
    parser.add_argument("--force", action="store_true", help="keep aside what is there, instead of refusing")


def _profile(parser: ArgumentParser) -> None:
    parser.add_argument("service")
    parser.add_argument("--seconds", type=int, default=10, metavar="N", help="how long (default 10)")


def _name(parser: ArgumentParser) -> None:
    parser.add_argument("name", help="a singular noun in lower case, such as `inventory`")


def _lock(parser: ArgumentParser) -> None:
    parser.add_argument("--upgrade", action="store_true", help="choose the newest of everything")


def _check(parser: ArgumentParser) -> None:
    steps = "gen, buf lint, buf breaking, ruff check, ruff format, mypy, imports, pytest"
    parser.add_argument(
        "--but", action="append", default=[], metavar="STEP", help=f"leave out one of: {steps}"
    )


def _compose(parser: ArgumentParser) -> None:
    parser.add_argument("--secrets", action="store_true", help="write deploy/secrets/ (never committed)")


def _kubernetes(parser: ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--secrets", action="store_true", help="write deploy/secrets/kubernetes.yaml instead")
    one.add_argument(
        "--canary", metavar="IMAGE", help="print a canary of the Deployment that stdin has as JSON"
    )


def _install(parser: ArgumentParser) -> None:
    parser.add_argument("--dev", action="store_true", help="with what tests and generation need")


def _plan(parser: ArgumentParser) -> None:
    parser.add_argument("plan")


COMMANDS = {
    "up": Command("start the mesh and wait until it is healthy", "mesh:up", shape=_up),
    "down": Command("stop the mesh", "mesh:down", None),
    "status": Command(
        "each part, its health, its memory; 0 only if all is well", "status:status", None, _status
    ),
    "logs": Command("what the parts wrote", "logs:logs", None, _logs),
    "restart": Command("restart one process", "mesh:restart", None, _service),
    "reset": Command("stop the mesh and remove its data (asks first)", "mesh:reset", None, _reset),
    "backup": Command("back up the mesh that runs, and archive its WAL", "backup:backup", shape=_backup),
    "restore": Command(
        "put the data back to a moment: `restore --at TIME`", "restore:restore", shape=_restore
    ),
    "demo": Command("the main job; or `demo shop`, `retail`, `import`", "tools:demo", DEV, rest=True),
    "worker": Command("run jobs in the foreground: `worker MODULE...`", "tools:worker", rest=True),
    "jobs": Command("jobs: run, list, watch, retry, cancel, top", "tools:jobs", rest=True),
    "chaos": Command("faults under load, and what users saw: `run SCENARIO`", "tools:chaos", rest=True),
    "instance": Command("one more process of a service, in the foreground", "tools:instance", shape=_service),
    "mesh": Command("instances, and who calls whom; `mesh --watch`", "tools:mesh", rest=True),
    "psql": Command("psql on a service's database", "tools:psql", None, _service, rest=True),
    "dead-letters": Command("list and replay events no consumer could take", "tools:dead_letters", rest=True),
    "profile": Command("write a flame graph of a service's process", "tools:profile", shape=_profile),
    "bench": Command("measure: `bench NAME`", "tools:bench", DEV, rest=True),
    "test": Command("run the tests: pytest's own arguments follow", "tools:test", DEV, rest=True),
    "check": Command("everything CI checks, in order", "checks:check", DEV, _check, rest=True),
    "gen": Command("write gen/ anew from protos/", "tools:gen", DEV, rest=True),
    "new-service": Command("write a new service's first files", "tools:new_service", DEV, _name, rest=True),
    "compose": Command("write compose.yaml, or its secrets", "compose:compose", shape=_compose),
    "kubernetes": Command(
        "write deploy/ for Kubernetes, or its secrets", "kubernetes.writing:kubernetes", shape=_kubernetes
    ),
    "install": Command(
        "make or update the environment, and nothing else", "commands:install", None, _install
    ),
    "lock": Command("write requirements/*.lock from pyproject.toml", "locks:lock", shape=_lock),
    "supervise": Command("", "supervisor:supervise", None, _plan),  # What `up` starts; no word for people.
}


def parser() -> ArgumentParser:
    """All commands with their help."""
    whole = ArgumentParser(
        prog="weft",
        description="Weft's launcher.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    words = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        listed = {"help": command.help} if command.help else {}  # Without it, it is in no list.
        one = words.add_parser(name, description=f"{command.help.capitalize()}.", **listed)  # type: ignore[arg-type]
        command.shape(one)
        if command.rest:
            one.add_argument("rest", nargs=REMAINDER, metavar="...", help="handed on to the program")
    return whole


def main(words: list[str]) -> int:
    """Runs one command; what a person can act on is told in a line."""
    arguments, strange = parser().parse_known_args(words)
    command = COMMANDS[arguments.command]
    if strange:
        if not command.rest:
            parser().error(f"unknown: {' '.join(strange)}")
        arguments.rest = strange + arguments.rest
    try:
        _enter(command)
        return _function(command)(arguments)
    except Problem as problem:
        warn(str(problem))
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `weft logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def install(arguments: Namespace) -> int:
    Environment.here().ensure(DEV if arguments.dev else RUN)
    return 0


def _enter(command: Command) -> None:
    """Goes on in the environment, made first if the command needs one; does not return then."""
    environment = Environment.here()
    if command.lock:
        environment.ensure(command.lock)
    if environment.python.exists() and not paths.in_venv() and command.does != "locks:lock":
        os.execv(environment.python, [str(environment.python), os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def _function(command: Command) -> Callable[[Namespace], int]:
    module, _, name = command.does.partition(":")
    function: Callable[[Namespace], int] = getattr(import_module(f"launcher.{module}"), name)
    return function
