"""Where things are: the repository, its virtual environment, and the data folder with its permissions."""

import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.problem import Problem

FREE_BYTES_MIN = 1_000_000_000  # A cluster is 40 MB, its WAL up to 1 GB before it is recycled.
HOME_MODE = 0o711  # PostgreSQL's own account passes through; only the owner may list.
PRIVATE = 0o700


def root(environ: Mapping[str, str] = os.environ) -> Path:
    """The repository's root; WEFT_ROOT lets a test stand another tree in."""
    return Path(environ.get("WEFT_ROOT") or Path(__file__).resolve().parents[2]).absolute()


def venv(environ: Mapping[str, str] = os.environ) -> Path:
    """The virtual environment's folder."""
    return Path(environ.get("WEFT_VENV") or root(environ) / ".venv").absolute()


def in_venv() -> bool:
    """Whether this very process runs in the virtual environment."""
    return Path(sys.prefix).absolute() == venv() or Path(sys.prefix).resolve() == venv().resolve()


def site_packages() -> Path:
    """Where this process's packages are."""
    return Path(sysconfig.get_path("purelib"))


@dataclass(frozen=True)
class Home:
    """The data folder of one mesh."""

    path: Path

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> "Home":
        return cls(Path(environ.get("WEFT_HOME") or root(environ) / ".weft").absolute())

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.json"

    @property
    def state(self) -> Path:
        """What the supervisor last said of its children."""
        return self.path / "run" / "state.json"

    @property
    def held(self) -> Path:
        """Locked for as long as a supervisor lives."""
        return self.path / "run" / "supervisor.lock"

    @property
    def requests(self) -> Path:
        """A file here names a process that is to be restarted."""
        return self.path / "run" / "restart"

    @property
    def archive(self) -> Path:
        """Names the line of the WAL archive that is written (see archive.py)."""
        return self.path / "archive.json"

    @property
    def backups(self) -> Path:
        return self.path / "backups"

    @property
    def restoring(self) -> Path:
        """There while a restore puts things into place; it names where what was before is kept."""
        return self.path / "restoring"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def make(self) -> None:
        """Makes the folder and its parts. Raises Problem when it may not be written or is full."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(HOME_MODE)
            for part in (
                self.state.parent,
                self.requests,
                self.logs,
                self.path / "nats",
                self.path / "envoy",
            ):
                part.mkdir(parents=True, exist_ok=True)
                part.chmod(PRIVATE)
            (self.state.parent / "writable").write_text("")
        except PermissionError as error:
            raise Problem(
                f"{error.filename or self.path} may not be written by this account (uid {os.geteuid()})",
                "run as its owner, or set WEFT_HOME to a folder of your own",
            ) from error
        except OSError as error:
            raise Problem(f"{self.path}: {error.strerror}", "set WEFT_HOME to another folder") from error


def free_bytes(path: Path) -> int:
    """Room for this account on the disk of `path` or of its nearest parent."""
    while not path.exists():
        path = path.parent
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
