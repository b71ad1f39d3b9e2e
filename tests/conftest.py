"""One PostgreSQL and one NATS for the whole run; a database and a NATS account of its own for each test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import databases, spread
from tests.servers import Shared

VARIABLE = "WEFT_TEST_SERVERS"  # Tells xdist's workers where the run keeps its servers.


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shared = Shared.new()
        os.environ[VARIABLE] = str(shared.folder)
        config.add_cleanup(shared.stop)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> spread.ByPlace:
    config.option.loadscopereorder = False  # Not by their number of tests: some take a minute each.
    return spread.ByPlace(config, log)


class Folder(pytest.Package):
    """A folder of tests: its fixtures of scope `package` end with its last test.

    Those of a plain folder, which has no `__init__.py`, would live until the whole run ends: two meshes
    nobody uses any more took two thirds of a core from all other tests.
    """

    def setup(self) -> None:
        """There is no module to be imported."""


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> Folder:
    folder: Folder = Folder.from_parent(parent, path=path)
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: spread.order(item.nodeid))


@pytest.fixture(scope="session")
def servers() -> Shared:
    return Shared(Path(os.environ[VARIABLE]))


@pytest.fixture(scope="session")
def postgres(servers: Shared) -> str:
    """URL of the administration database."""
    return servers.postgres()


@pytest.fixture
def nats_url(servers: Shared) -> str:
    """A NATS account that no other test has: its streams and consumers are this test's own."""
    return servers.account()


@pytest.fixture
async def fresh_database(postgres: str) -> AsyncIterator[str]:
    """URL of a database with the chassis' tables, for this test."""
    async with databases.fresh(postgres, databases.CHASSIS) as url:
        yield url
