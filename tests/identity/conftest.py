"""An identity service of each test's own, whose mails land in a list."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from services.chassis.clock import FakeClock
from services.chassis.host import Parts, Tools
from services.chassis.testing import laboratory
from services.identity.app import build
from tests.identity.people import ADMIN_EMAIL, ADMIN_PASSWORD, Mailbox, World
from weft.notification.v1.notification_pb2_grpc import add_NotificationServiceServicer_to_server

SETTINGS = {
    "WEFT_IDENTITY_BOOTSTRAP_EMAIL": ADMIN_EMAIL,
    "WEFT_IDENTITY_BOOTSTRAP_PASSWORD": ADMIN_PASSWORD,
    "WEFT_IDENTITY_ARGON2_MEMORY_KIB": "64",
    "WEFT_IDENTITY_ARGON2_PASSES": "1",
}


@pytest.fixture
def settings() -> dict[str, str]:
    """Overridden by tests that need others."""
    return {}


@pytest.fixture
async def world(postgres: str, nats_url: str, settings: dict[str, str]) -> AsyncIterator[World]:
    mailbox, clock = Mailbox(), FakeClock()

    def notification(tools: Tools) -> Parts:
        return Parts(servicers={add_NotificationServiceServicer_to_server: mailbox})

    builds = {"identity": partial(build, environ=SETTINGS | settings), "notification": notification}
    async with laboratory(builds, postgres_url=postgres, nats_url=nats_url, clock=clock) as lab:
        yield World(lab, clock, mailbox)
