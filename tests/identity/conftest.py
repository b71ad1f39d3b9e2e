"""An identity service whose mails land in a list, and people of each test's own in it."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from services.chassis.clock import FakeClock
from services.chassis.host import Parts, Tools
from services.chassis.testing import laboratory
from services.identity.app import build
from tests.identity.people import ADMIN_EMAIL, ADMIN_PASSWORD, Mailbox, Running, World
from tests.servers import Shared
from weft.notification.v1.notification_pb2_grpc import add_NotificationServiceServicer_to_server

SETTINGS = {
    "WEFT_IDENTITY_BOOTSTRAP_EMAIL": ADMIN_EMAIL,
    "WEFT_IDENTITY_BOOTSTRAP_PASSWORD": ADMIN_PASSWORD,
    "WEFT_IDENTITY_ARGON2_MEMORY_KIB": "64",
    "WEFT_IDENTITY_ARGON2_PASSES": "1",
    "WEFT_IDENTITY_LOCKOUT_AFTER": "5",
}


TODAY = datetime(2026, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def identity(
    postgres: str, nats_url: str, settings: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    """A service of one's own, for tests that need other settings or turn its keys."""
    mailbox, clock = Mailbox(), FakeClock(TODAY)

    def notification(tools: Tools) -> Parts:
        return Parts(servicers={add_NotificationServiceServicer_to_server: mailbox})

    def service(tools: Tools) -> Parts:
        parts.append(build(tools, SETTINGS | (settings or {})))
        return parts[0]

    parts: list[Parts] = []
    builds = {"identity": service, "notification": notification}
    async with laboratory(builds, postgres_url=postgres, nats_url=nats_url, clock=clock) as lab:
        yield Running(lab, clock, mailbox, parts[0])


@pytest.fixture(scope="session")
async def running(postgres: str, servers: Shared) -> AsyncIterator[Running]:
    """One for all tests of a worker; each has people of its own in it."""
    async with identity(postgres, servers.account()) as running:
        yield running


@pytest.fixture
def world(running: Running) -> World:
    return World(running, secrets.token_hex(5))


@pytest.fixture
async def alone(postgres: str, servers: Shared) -> AsyncIterator[World]:
    """A service that no other test sees: its keys and administrators may go."""
    async with identity(postgres, servers.account()) as running:
        yield World(running, secrets.token_hex(5))
