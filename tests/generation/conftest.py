"""Protos planted for a test, compiled as generation does; and all of gen/, made once from ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from generation import output
from generation.contract import Contract
from generation.protoc import Sources, image

from tests.generation.planting import HEADER, OPTIONS, Plant, lay, make


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Compiles the bodies of protos; `events` is the body of an events.proto."""

    def planted(body: str, events: str = "") -> Contract:
        files = {"planted.proto": HEADER + body} | ({"events.proto": HEADER + events} if events else {})
        sources = Sources.of(lay(tmp_path / "protos", files), tmp_path)
        return Contract(
            image(sources, output.DETAILS), [name for name in sources.files() if name != OPTIONS]
        )

    return planted


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gen/ as our protos make it now."""
    return make(tmp_path_factory.mktemp("made"))
