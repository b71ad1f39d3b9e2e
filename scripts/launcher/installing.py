"""Packages of a lock into an environment: by uv, which takes seconds, or else by pip, which takes minutes.

uv itself is pinned by hash and put into the environment by pip.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from launcher import indexes
from launcher.problem import Problem, warn

INSTALLER = "installer"


@dataclass(frozen=True)
class Installation:
    """One environment's folder, and the folder of the locks."""

    venv: Path
    locks: Path

    @property
    def uv(self) -> Path:
        return self.venv / "bin" / "uv"

    def install(self, lock: str, *, fresh_uv: bool) -> None:
        """Installs a lock; with `fresh_uv`, uv is installed first. Raises Problem."""
        pip = _pip()
        refused = self._by_pip(pip, INSTALLER) if fresh_uv or not self.uv.exists() else ""
        if refused:
            warn(f"uv could not be installed; pip does it all, which takes a minute or two\n{refused}")
        elif self._by_uv(pip[0], lock):
            return
        refused = self._by_pip(pip, lock)
        if refused:
            raise Problem(
                f"the packages of requirements/{lock}.lock could not be installed:\n{refused}",
                "check the network and `python3 -m pip config list`, then run the command again",
            )

    def _by_uv(self, python: str, lock: str) -> bool:
        environ = dict(os.environ, VIRTUAL_ENV=str(self.venv), UV_NO_PROGRESS="1", UV_NO_CONFIG="1")
        environ |= indexes.uv_environment(indexes.pip_configuration(python), environ)
        flags = ["--no-deps", "--require-hashes", "--quiet"]
        command = [str(self.uv), "pip", "install", *flags, "-r", str(self._file(lock))]
        done = subprocess.run(command, env=environ, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            warn("uv could not install the lock (see above); pip tries, which takes a minute or two")
        return done.returncode == 0

    def _by_pip(self, pip: Sequence[str], lock: str) -> str:
        """Returns what pip complained of, empty when all is installed."""
        flags = ["--no-deps", "--require-hashes", "--no-input", "--quiet", "--disable-pip-version-check"]
        into = ["--python", f"{self.venv}/bin/python", "install"]
        command = [*pip, *into, *flags, "-r", str(self._file(lock))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return done.stderr.strip() or "pip failed" if done.returncode else ""

    def _file(self, lock: str) -> Path:
        return self.locks / f"{lock}.lock"


def _pip() -> list[str]:
    """A command that runs pip, from this Python or from the one it was made of."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    base = getattr(sys, "_base_executable", sys.executable)
    if subprocess.run([base, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return [base, "-m", "pip"]
    raise Problem(
        f"{sys.executable} has no pip",
        "install it (Debian: `apt-get install python3-pip`), or `python3 -m ensurepip`",
    )
