"""Folders of generated files: how two differ, how one becomes the other, whose turn it is to write."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def differences(new: Path, old: Path) -> list[str]:
    """Paths whose bytes differ, or that only one of both has."""
    ours, theirs = _files(new), _files(old)
    return sorted(
        name for name in ours | theirs if name not in ours & theirs or not _same(new / name, old / name)
    )


def replace(new: Path, old: Path) -> None:
    """Makes `old` equal to `new`. Files that are the same already are not touched."""
    for name in differences(new, old):
        source, target = new / name, old / name
        if not source.exists():
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits until no other process holds the folder; the lock ends with its holder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _files(root: Path) -> set[str]:
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()
