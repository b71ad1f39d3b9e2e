"""The virtual environment, made from a lock file whose every package is pinned by hash.

A stamp in the environment names the locks it satisfies. Two commands at once share one
making; one that was interrupted is made anew.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher import paths
from launcher.installing import INSTALLER, Installation
from launcher.problem import Problem, warn

RUN, DEV, PEERS = "run", "dev", "peers"
FREE_BYTES_MIN = 2_000_000_000  # The development environment takes 0.9 GB, its cache about as much.
COVERS = {RUN: (RUN,), DEV: (RUN, DEV), PEERS: (PEERS,)}  # dev.lock holds everything of run.lock.


@dataclass(frozen=True)
class Environment:
    """One virtual environment and the locks it is made from."""

    path: Path
    locks: Path

    @classmethod
    def here(cls) -> "Environment":
        return cls(paths.venv(), paths.root() / "requirements")

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def uv(self) -> Path:
        return self.path / "bin" / "uv"

    @property
    def stamp(self) -> Path:
        """Names the locks that are satisfied; absent while the environment is in the making."""
        return self.path / "weft.json"

    @property
    def making(self) -> Path:
        """There while an installation runs; left over, it says that one was interrupted."""
        return self.path / "weft.making"

    def ensure(self, lock: str) -> None:
        """Makes or updates the environment until `lock` is satisfied. Raises Problem."""
        if self.satisfies(lock):
            return
        with self._alone():
            if not self.satisfies(lock):
                self._make(lock)

    def satisfies(self, lock: str) -> bool:
        return (
            self.python.exists()
            and not self.making.exists()
            and self._stamped().get(lock) == self._digest(lock)
        )

    def _stamped(self) -> dict[str, str]:
        try:
            found = json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _digest(self, lock: str) -> str:
        return hashlib.sha256((self.locks / f"{lock}.lock").read_bytes()).hexdigest()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        beside = self.path.with_name(f"{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = beside.open("w")
        except OSError as error:
            raise Problem(
                f"the environment {self.path} has to be made or updated, and its folder may not be written",
                "run once as the folder's owner, or set WEFT_VENV to a folder of your own",
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                warn("another command is making the environment; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make(self, lock: str) -> None:
        self._preflight()
        stamped = self._stamped()
        try:
            if not self._usable():
                stamped = {}
                self._create()
            self.making.touch()
            warn(f"installing the packages of requirements/{lock}.lock into {self.path}")
            installation = Installation(self.path, self.locks)
            installation.install(lock, fresh_uv=stamped.get(INSTALLER) != self._digest(INSTALLER))
        except PermissionError as error:
            raise Problem(
                f"{error.filename} may not be written",
                "run as its owner, or set WEFT_VENV to a folder of your own",
            ) from error
        fresh = {name: self._digest(name) for name in (*COVERS[lock], INSTALLER)}
        kept = {name: digest for name, digest in stamped.items() if digest == self._digest(name)}
        unfinished = self.stamp.with_suffix(".new")
        unfinished.write_text(json.dumps(kept | fresh))
        unfinished.replace(self.stamp)
        self.making.unlink()

    def _preflight(self) -> None:
        free = paths.free_bytes(self.path)
        if free < FREE_BYTES_MIN:
            here = f"{free // 1_000_000} MB are free where {self.path} is to be"
            raise Problem(
                f"{here}, {FREE_BYTES_MIN // 1_000_000} are needed",
                "free some, or set WEFT_VENV to a folder on another disk",
            )

    def _usable(self) -> bool:
        """Whether what is there can be built upon."""
        if not self.path.exists() or self.making.exists():
            return False
        fits = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            return subprocess.run([self.python, "-c", fits], check=False).returncode == 0
        except OSError:
            return False

    def _create(self) -> None:
        if self.path.exists():
            if (
                any(self.path.iterdir())
                and not (self.path / "pyvenv.cfg").exists()
                and not self.making.exists()
            ):
                raise Problem(f"{self.path} is no virtual environment", "move it away, or set WEFT_VENV")
            shutil.rmtree(self.path)
        builder = venv.EnvBuilder(symlinks=True, with_pip=False)
        builder.create(self.path)
        (self.path / ".gitignore").write_text("*\n")
