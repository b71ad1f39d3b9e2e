"""Webhooks on their way out: signed, to addresses that anyone can reach, again and again until they arrive.

An attempt is written down before it begins. One whose process is killed is made again after its lease, with
the same `webhook-id`, by which the receiver knows it.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.errors import Refusal
from services.chassis.sealing import BrokenSeal
from services.scheduler import metrics
from services.scheduler.domain.sealing import Sealer
from services.scheduler.domain.webhook import (
    UnknownWebhookDelivery,
    UnknownWebhookEndpoint,
    UrlRefused,
    WebhookDelivery,
    check_url,
    may_go_to,
    signatures,
)
from services.scheduler.settings import SchedulerSettings
from services.scheduler.store import glance, webhook as store
from weft.scheduler.v1.webhook_endpoint_pb2 import WebhookEndpointSettings

LOOK_EVERY_S = 0.5
ATTEMPTS_MAX = 20  # Under way in this process: as many connections are open.
ENDPOINT_ATTEMPTS_MAX = 4  # To one endpoint: a slow one holds up no other.
LEASE_SPARE = timedelta(seconds=15)  # What an attempt takes beside the endpoint's time to answer.
PROBLEM_CHARS_MAX = 300  # What is kept of why an attempt failed.

log = logging.getLogger("weft.scheduler")


class Unreachable(Exception):
    """An attempt that got no answer, and why."""


class Deliverer:
    """One process's share of the work."""

    def __init__(
        self, db: Database, clock: Clock, sealer: Sealer, settings: SchedulerSettings, *, development: bool
    ) -> None:
        self._db, self._clock, self._sealer = db, clock, sealer
        self._timeout_s, self._development = settings.webhook_timeout_s, development
        self._tls = ssl.create_default_context()
        self._tasks: dict[asyncio.Task[None], UUID] = {}  # Attempts under way, by endpoint.

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                if not await self._begin():
                    await self._rest()
        finally:
            for task in self._tasks:
                task.cancel()

    async def _begin(self) -> bool:
        """Begins attempts that are due, as far as there is room. False: nothing was begun."""
        now, under_way = self._clock.now(), Counter(self._tasks.values())
        room = ATTEMPTS_MAX - under_way.total()
        if not room or not await glance.is_due(self._db, glance.DELIVERIES, now):
            return False
        busy = [endpoint_id for endpoint_id, count in under_way.items() if count >= ENDPOINT_ATTEMPTS_MAX]
        lease = timedelta(seconds=self._timeout_s) + LEASE_SPARE
        async with self._db.transaction() as tx:
            rows = await store.take_due(tx, now, now + lease, room, busy)
        for row in rows:
            task = asyncio.create_task(self._deliver(row))
            self._tasks[task] = row.endpoint_id
            task.add_done_callback(self._tasks.pop)
        return bool(rows)

    async def _rest(self) -> None:
        """Until an attempt has ended, or for a while."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await self._clock.sleep(LOOK_EVERY_S)

    async def _deliver(self, row: WebhookDelivery) -> None:
        try:
            status, problem = await self._attempt(row)
            async with self._db.transaction() as tx:
                kept = await store.delivery(tx, row.endpoint_id, row.delivery_id)
                kept.answered(status, problem[:PROBLEM_CHARS_MAX], self._clock.now())
        except (UnknownWebhookDelivery, UnknownWebhookEndpoint):
            return  # Deleted meanwhile.
        except Refusal as error:
            log.warning("a webhook waits: %s", type(error).__name__)
        else:
            metrics.WEBHOOKS.labels(kept.state.lower()).inc()

    async def _attempt(self, row: WebhookDelivery) -> tuple[int, str]:
        """HTTP status, 0 when nobody answered, and what went wrong."""
        async with self._db.transaction() as tx:
            endpoint = await store.endpoint(tx, row.endpoint_id)
        settings = WebhookEndpointSettings.FromString(endpoint.settings)
        try:
            about = f"endpoint:{endpoint.endpoint_id}"
            sealed = endpoint.sealed_secrets(self._clock.now())
            secrets = [self._sealer.open(each, about) for each in sealed]
            status = await self._post(settings.url, row, secrets)
        except (Unreachable, UrlRefused) as problem:
            return 0, str(problem)
        except BrokenSeal:
            return 0, "its secret was sealed with another key"
        return status, "" if 200 <= status < 300 else f"answered {status}"

    async def _post(self, url: str, row: WebhookDelivery, secrets: Sequence[bytes]) -> int:
        """Raises Unreachable, UrlRefused."""
        check_url(url, development=self._development)
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._address(parts.hostname or "", port)
        now = int(self._clock.now().timestamp())
        body = row.body.encode()
        headers = {
            "host": parts.netloc,
            "content-type": "application/json",
            "user-agent": "weft-webhooks/1",
            "webhook-id": str(row.delivery_id),
            "webhook-timestamp": str(now),
            "webhook-signature": signatures(secrets, str(row.delivery_id), now, body),
        }
        # To the address that was checked, whatever the name says a moment later.
        target = httpx.URL(url).copy_with(host=address)
        extensions = {"sni_hostname": parts.hostname}
        client = httpx.AsyncClient(verify=self._tls, timeout=self._timeout_s, trust_env=False)
        try:
            async with asyncio.timeout(self._timeout_s), client:
                request = client.build_request(
                    "POST", target, content=body, headers=headers, extensions=extensions
                )
                answer = await client.send(request, stream=True, follow_redirects=False)
                await answer.aclose()
                return answer.status_code
        except (httpx.HTTPError, TimeoutError, ssl.SSLError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def _address(self, host: str, port: int) -> str:
        """One of the host's addresses. Raises Unreachable, UrlRefused."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise Unreachable(f"its name has no address: {type(error).__name__}") from error
        addresses = [str(each[4][0]) for each in found]
        if not may_go_to(addresses, development=self._development):
            raise UrlRefused("public_address")
        return addresses[0]
