"""A mesh whose services are processes of their own, so that each can die alone."""

import os
import random
from collections.abc import Iterator

import pytest

from tests import meshes
from tests.meshes import Mesh

pytest.register_assert_rewrite("tests.chaos.verdict")

SETTINGS = {
    "WEFT_POSTGRES_OPTIONS": "fsync=off",  # Processes die here, the kernel does not.
    "WEFT_RATE_FACTOR": "100",  # Callers here stand for many.
    "WEFT_IDENTITY_ARGON2_MEMORY_KIB": "64",
    "WEFT_IDENTITY_ARGON2_PASSES": "1",
    "WEFT_IDENTITY_ACCESS_S": "3600",
    "WEFT_IDENTITY_LOCKOUT_AFTER": "100",  # 64 uses of one code are to meet the code, not the lock.
    "WEFT_IDENTITY_ADDRESS_FAILURES_MAX": "10000",
    "WEFT_NOTIFICATION_RETRY_FIRST_S": "0.5",
    "WEFT_NOTIFICATION_RETRY_MAX_S": "2",
    "WEFT_NOTIFICATION_SMTP_TIMEOUT_S": "4",
    "WEFT_NOTIFICATION_LEASE_S": "6",  # An attempt whose sender was killed is dead after this.
}
SEED = "WEFT_CHAOS_SEED"  # Repeats the order of a run.


@pytest.fixture(scope="session")
def mesh() -> Iterator[Mesh]:
    """Started once a run; every test of this folder is in the xdist group `chaos`, so in one worker."""
    with meshes.running("--processes", "each", settings=SETTINGS) as mesh:
        yield mesh


@pytest.fixture
def seed() -> int:
    """Printed, so that pytest shows it with a failure."""
    chosen = int(os.environ.get(SEED) or random.randrange(1_000_000))
    print(f"{SEED}={chosen}")  # noqa: T201
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chaos" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("chaos"))
