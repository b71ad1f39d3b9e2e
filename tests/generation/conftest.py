"""Contracts planted for a test; all of gen/, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.generation.planting import ROOT, Plant, compiled, make


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Compiles the bodies of protos; `events` is the body of an events.proto."""
    return lambda body, events="": compiled(tmp_path, body, events)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gen/ as our protos make it now, from a copy beside it. Tests that use it share one worker."""
    folder = tmp_path_factory.mktemp("made")
    return make(folder, shutil.copytree(ROOT / "protos", folder / "protos"))
