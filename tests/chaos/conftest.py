"""A mesh whose services are processes of their own, so that each can die alone."""

import os
import random
from collections.abc import Iterator

import pytest

from tests import meshes
from tests.meshes import Mesh

pytest.register_assert_rewrite("tests.chaos.verdict")

OWN = "identity,audit,notification,queue,worker"  # What is killed here; each is a process.
SHOP = "identity,audit,notification,catalog,inventory,pricing,order,payment,billing"
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


@pytest.fixture(scope="package")
def mesh() -> Iterator[Mesh]:
    """Started once for the folder, whose tests all run in one worker."""
    settings = {**SETTINGS, "WEFT_SERVICES": OWN}
    with meshes.running("--processes", "each", settings=settings) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def shop() -> Iterator[Mesh]:
    """All that a checkout needs."""
    settings = {**SETTINGS, "WEFT_SERVICES": SHOP}
    with meshes.running("--processes", "each", settings=settings) as mesh:
        yield mesh


@pytest.fixture
def seed() -> int:
    """Printed, so that pytest shows it with a failure."""
    chosen = int(os.environ.get(SEED) or random.randrange(1_000_000))
    print(f"{SEED}={chosen}")  # noqa: T201
    return chosen
