"""Making the lock files: every package and its hashes, and no index's address."""

import os
import subprocess
from argparse import Namespace

from launcher import indexes, paths
from launcher.environment import DEV, PEERS, RUN, Environment
from launcher.installing import INSTALLER
from launcher.problem import Problem, say

INSTALLERS = "uv>=0.13\n"
PYTHON = "3.11"  # The oldest that is supported; markers in the lock serve the newer.


def lock(arguments: Namespace) -> int:
    """Chooses every version anew (`--upgrade`), or only for what pyproject.toml has changed."""
    environment = Environment.here()
    environment.ensure(RUN)
    project, run = "pyproject.toml", environment.locks / "run.lock"
    _compile(environment, INSTALLER, ["-"], arguments.upgrade, stdin=INSTALLERS)
    _compile(environment, RUN, [project], arguments.upgrade)
    _compile(environment, DEV, [project, "--group", "dev", "-c", str(run)], arguments.upgrade)
    overrides = environment.locks / "peers.overrides"
    peers = ["--group", f"{project}:{PEERS}", "--override", str(overrides)]
    _compile(environment, PEERS, peers, arguments.upgrade)
    return 0


def _compile(environment: Environment, name: str, wishes: list[str], upgrade: bool, stdin: str = "") -> None:
    target = environment.locks / f"{name}.lock"
    plain = ["--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate", "--quiet"]
    choice = ["--python-version", PYTHON, "--prerelease", "if-necessary-or-explicit", "--generate-hashes"]
    command = [str(environment.uv), "pip", "compile", *wishes, *choice, *plain, "-o", str(target)]
    environ = dict(os.environ, UV_NO_CONFIG="1")
    environ |= indexes.uv_environment(indexes.pip_configuration(), environ)
    done = subprocess.run(
        [*command, *(["--upgrade"] if upgrade else [])],
        env=environ, cwd=paths.root(), input=stdin, text=True, check=False, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise Problem(f"{target.name} could not be made (see above)", "check pyproject.toml and the network")
    say(f"requirements/{target.name}: {target.read_text().count('==')} packages")
