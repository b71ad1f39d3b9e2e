"""A notification service of each test's own, with the developer's mailbox as its relay."""

from collections.abc import AsyncIterator

import pytest

from services.chassis.testing import Lab
from tests.notification.messages import notification
from tests.servers import Shared


@pytest.fixture
async def lab(servers: Shared) -> AsyncIterator[Lab]:
    async with notification(servers) as lab:
        yield lab
