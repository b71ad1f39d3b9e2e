"""Who does faults is alone at it, and has somebody beside who undoes them should he die."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from launcher import undoing
from scripts.chaos.mesh import Mesh, Refused


@contextmanager
def guarded(mesh: Mesh) -> Iterator[None]:
    """Alone, with somebody beside who undoes the block's faults should this process die. Raises Refused."""
    with undoing.alone(mesh.home) as mine:
        if not mine:
            raise Refused("another run is at it: faults of two would be nobody's")
        undoing.undo(mesh.home)
        environ = {**os.environ, "WEFT_HOME": str(mesh.home.path)}
        guard = subprocess.Popen(
            [sys.executable, "-m", "launcher.undoing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environ,
        )
        try:
            yield
        finally:
            undoing.undo(mesh.home)
            guard.communicate()
