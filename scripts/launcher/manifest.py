"""What a backup says of itself: versions, times, the WAL it begins in, and a checksum of each file.

It is written last, and a backup without it is none.
"""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from launcher.problem import Problem

FORMAT = 1
NAME = "manifest.json"
NEW = ".making"  # Ends the name of what is not whole yet.


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One backup."""

    format: int
    weft: str  # Of the program that made it.
    postgres: str  # Major version.
    services: list[str]  # Those whose databases may be in it.
    began: str  # ISO 8601 in UTC.
    ended: str  # From this moment on it can be restored.
    timeline: int
    start: str  # Position in the WAL from which it is replayed: `0/2000028`.
    files: dict[str, str]  # SHA-256 by path within the backup.

    def write(self, folder: Path) -> None:
        path = folder / NAME
        with path.open("w") as file:
            json.dump(asdict(self), file, indent=2)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True)
class Backup:
    """A whole backup, as it lies there."""

    folder: Path
    manifest: Manifest

    @property
    def began(self) -> datetime:
        return datetime.fromisoformat(self.manifest.began)

    @property
    def ended(self) -> datetime:
        return datetime.fromisoformat(self.manifest.ended)

    @property
    def wal(self) -> Path:
        """The archive of its line."""
        return self.folder.parent / "wal"

    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def verify(self) -> None:
        """Raises Problem on the first file that is not as it was written."""
        for name, known in self.manifest.files.items():
            path = self.folder / name
            if not path.is_file():
                raise Problem(f"the backup is damaged: {path} is missing", _older())
            if digest(path) != known:
                raise Problem(f"the backup is damaged: {path} is not as it was written", _older())


def found(folder: Path) -> list[Backup]:
    """Every whole backup of a folder of lines, oldest first."""
    return sorted(_read(folder), key=lambda each: each.ended)


def _read(folder: Path) -> Iterator[Backup]:
    for path in folder.glob(f"*/*/{NAME}"):
        if path.parent.suffix == NEW:
            continue
        try:
            values = json.loads(path.read_text())
            if values["format"] == FORMAT:
                yield Backup(path.parent, Manifest(**values))
                continue
        except (ValueError, KeyError, TypeError) as error:
            raise Problem(f"the backup is damaged: {path} cannot be read", _older()) from error
        raise Problem(f"{path.parent} is of format {values['format']}", f"this version reads {FORMAT}")


def digests(folder: Path) -> dict[str, str]:
    """Of all files below."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): digest(file) for file in files}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version() -> str:
    """This program's."""
    with (Path(__file__).resolve().parents[2] / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def _older() -> str:
    return "move that backup away, and the one before it is taken; its WAL must reach to the time asked for"
