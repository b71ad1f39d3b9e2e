"""Commands that run one of the repository's programs in the environment, and end with its exit code."""

import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher import layout, leash, paths, postgres, roster, state
from launcher.credentials import Credentials
from launcher.paths import Home
from launcher.ports import HOST, Ports
from launcher.problem import Problem, say

TEST_WORKERS = 3  # On the two cores CI has: two leave a quarter of them idle, for much is waited for.
PROFILE_RATE_HZ = 100
REFUSED = "retail-refused.csv"  # What `demo retail` could not take.


def test(arguments: Namespace) -> int:
    """pytest, in parallel unless the caller says how."""
    told = list(arguments.rest)
    parallel = (
        []
        if any(word.startswith(("-n", "--numprocesses", "-p")) for word in told)
        else ["-n", str(TEST_WORKERS)]
    )
    return run([sys.executable, "-m", "pytest", *parallel, *told])


def gen(arguments: Namespace) -> int:
    return run([sys.executable, paths.root() / "scripts" / "gen.py", *arguments.rest])


def demo(arguments: Namespace) -> int:
    """The main job against the mesh that runs; or one of the others, by its name."""
    home = Home.of()
    seen = _running(home)
    client, name, rest = _client(home, seen), arguments.rest[:1], arguments.rest[1:]
    if name == ["import"]:
        environ = {**_inside(home), **client, "WEFT_METRICS_ADDRESS": f"{HOST}:0"}
        return run([sys.executable, "-m", "scripts.sales", *rest], environ)
    if name == ["retail"]:
        told = {"WEFT_ORDER_PID": str(seen.find("order").pid), "WEFT_REFUSED_FILE": str(home.path / REFUSED)}
        return run([sys.executable, "-m", "scripts.retail", *rest], client | told)
    if name == ["shop"]:
        return run([sys.executable, "-m", "scripts.shop", *rest], client)
    return run([sys.executable, "-m", "scripts.demo", *arguments.rest], client)


def bench(arguments: Namespace) -> int:
    return run([sys.executable, "-m", "bench", *arguments.rest])


def new_service(arguments: Namespace) -> int:
    return run([sys.executable, paths.root() / "scripts" / "new_service.py", arguments.name, *arguments.rest])


def dead_letters(arguments: Namespace) -> int:
    """The chassis's own command, with the running mesh's addresses and passwords."""
    return run([sys.executable, "-m", "services.chassis.dead_letters", *arguments.rest], _inside(Home.of()))


def worker(arguments: Namespace) -> int:
    """A worker in the foreground, as a process of the running mesh."""
    environ = {**_inside(Home.of()), "WEFT_METRICS_ADDRESS": f"{HOST}:0"}
    return run([sys.executable, "-m", "services.worker", *arguments.rest], environ)


def jobs(arguments: Namespace) -> int:
    """Jobs by the edge of the running mesh, as its administrator."""
    home = Home.of()
    return run([sys.executable, "-m", "scripts.jobs", *arguments.rest], _client(home, _running(home)))


def chaos(arguments: Namespace) -> int:
    """Faults and load on the mesh that runs, which end with this process."""
    home = Home.of()
    seen = state.read(home)
    told = {**(_client(home, seen) if seen else {}), "WEFT_HOME": str(home.path)}
    told["PYTHONPATH"] = os.pathsep.join(str(paths.root() / part) for part in (".", "gen", "scripts"))
    told["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # Its handlers break programs that are started beside its threads.
    command = [sys.executable, "-m", "scripts.chaos", *arguments.rest]
    return run(leash.words(command, signal.SIGTERM), told, Path.cwd())


def mesh(arguments: Namespace) -> int:
    """The graph of the running mesh, by the registry's own process: it is there without the edge, too."""
    home = Home.of()
    seen = _running(home)
    if not any("registry" in each.services for each in seen.components):
        raise Problem("no registry runs in this mesh", "name it in WEFT_SERVICES, or leave that unset")
    told = {
        "PYTHONPATH": os.pathsep.join(str(paths.root() / part) for part in (".", "gen")),
        "WEFT_REGISTRY_TARGET": f"{HOST}:{seen.find('registry').port}",
        "WEFT_MESH_KEY": Credentials.of(home.secrets, []).mesh_key,
    }
    return run([sys.executable, "-m", "scripts.picture", *arguments.rest], told)


def instance(arguments: Namespace) -> int:
    """One more process of a service, in the foreground, at ports that are free; it registers itself."""
    home = Home.of()
    seen = _running(home)
    names = list(dict.fromkeys(name for each in seen.components for name in each.services))
    if arguments.service not in names:
        raise Problem(f"no service is called {arguments.service}", f"one of: {', '.join(names)}")
    one = roster.Group(arguments.service, (arguments.service,), 0, 0)
    environ = {**os.environ, "WEFT_REGISTER": "1"}
    told = layout.environment if seen.instances else roster.environment
    whole = told(one, Ports(**seen.ports), Credentials.of(home.secrets, names), environ)
    return run([sys.executable, "-m", "services", arguments.service], whole)


def psql(arguments: Namespace) -> int:
    """psql on one service's database, as its own role."""
    home = Home.of()
    seen = _running(home)
    names = [name for each in seen.components for name in each.services]
    if arguments.service not in names:
        raise Problem(f"no service is called {arguments.service}", f"one of: {', '.join(names)}")
    cluster = postgres.Cluster.of(home, seen.postgres)
    password = Credentials.of(home.secrets, names).databases[arguments.service]
    return run(
        [*cluster.psql(arguments.service, arguments.service), *arguments.rest], {"PGPASSWORD": password}
    )


def profile(arguments: Namespace) -> int:
    """A flame graph of the process that hosts a service."""
    home = Home.of()
    component = _running(home).find(arguments.service)
    if not component.services or not component.pid:
        raise Problem(
            f"{component.name} is no Python process that runs", "name a service; see `scripts/weft status`"
        )
    folder = home.path / "profiles"
    folder.mkdir(exist_ok=True)
    target = folder / f"{arguments.service}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.svg"
    flags = ["-d", str(arguments.seconds), "-r", str(PROFILE_RATE_HZ), "-f", "flamegraph", "--nonblocking"]
    spy = Path(sys.prefix) / "bin" / "py-spy"
    if code := run([spy, "record", *flags, "-p", str(component.pid), "-o", target]):
        raise Problem(
            f"py-spy ended with {code} (see above)", "as an ordinary user it needs kernel.yama.ptrace_scope=0"
        )
    say(f"{target}")
    return 0


def run(
    command: Sequence[str | Path], extra: Mapping[str, str] | None = None, folder: Path | None = None
) -> int:
    """Runs a program in the root of the repository, or in `folder`; Ctrl-C is its to answer."""
    program = Path(
        command[1] if command[0] == sys.executable and not str(command[1]).startswith("-") else command[0]
    )
    if not program.exists():
        raise Problem(f"there is no {program}", "check out the repository again")
    process = subprocess.Popen(command, cwd=folder or paths.root(), env={**os.environ, **(extra or {})})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _running(home: Home) -> state.State:
    if not (seen := state.read(home)):
        raise Problem("the mesh does not run", "`scripts/weft up` starts it")
    return seen


def _client(home: Home, seen: state.State) -> dict[str, str]:
    """What a client of the mesh, outside of it, is told."""
    secret = Credentials.of(home.secrets, [])
    root = paths.root()
    return {
        "PYTHONPATH": os.pathsep.join(str(root / part) for part in (".", "gen", "gen/client")),
        "WEFT_EDGE_URL": f"https://{HOST}:{seen.ports['edge']}",
        "WEFT_PLAIN_URL": f"http://{HOST}:{seen.ports['plain']}",
        "WEFT_CA_FILE": str(home.path / "certificates" / "ca.crt"),
        "WEFT_ADMIN_EMAIL": secret.admin_email,
        "WEFT_ADMIN_PASSWORD": secret.admin_password,
    }


def _inside(home: Home) -> dict[str, str]:
    """What a process of the mesh that hosts every service would be told."""
    seen = _running(home)
    names = tuple(dict.fromkeys(name for each in seen.components for name in each.services))
    whole = roster.Group("tool", names, 0, 0)
    told = layout.environment if seen.instances else roster.environment
    return told(whole, Ports(**seen.ports), Credentials.of(home.secrets, names), {})
