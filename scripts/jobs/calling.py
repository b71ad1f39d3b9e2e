"""The edge as a signed-in administrator reaches it: stubs, and a token that is renewed in time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio

from weft.identity.v1.sign_in_pb2 import SignInRequest
from weft.identity.v1.sign_in_pb2_grpc import SignInServiceStub
from weft.queue.v1.job_pb2_grpc import JobServiceStub
from weft.queue.v1.queue_pb2_grpc import QueueServiceStub
from weft.queue.v1.stats_pb2_grpc import StatsServiceStub
from weft.worker.v1.worker_pb2_grpc import WorkerServiceStub

RENEW_S = 240.0  # Tokens live for some minutes.
CALL_S_MAX = 30.0


class NotSignedIn(Exception):
    """The administrator's sign-in needs more than a password here."""


class Edge:
    """Calls with the administrator's token."""

    def __init__(self, channel: grpc.aio.Channel, email: str, password: str) -> None:
        self.channel, self._email, self._password = channel, email, password
        self._token, self._signed_at = "", 0.0
        self.jobs: Any = JobServiceStub(channel)
        self.queues: Any = QueueServiceStub(channel)
        self.stats: Any = StatsServiceStub(channel)
        self.workers: Any = WorkerServiceStub(channel)

    async def call(self, method: Any, request: Any) -> Any:
        """One answer. Raises AioRpcError."""
        answer: Awaitable[Any] = method(request, metadata=await self.who(), timeout=CALL_S_MAX)
        return await answer

    async def stream(self, method: Any, request: Any) -> AsyncIterator[Any]:
        """Answers until the caller has enough. Raises AioRpcError."""
        async for answer in method(request, metadata=await self.who()):
            yield answer

    async def who(self) -> tuple[tuple[str, str], ...]:
        if time.monotonic() - self._signed_at > RENEW_S:
            stub: Any = SignInServiceStub(self.channel)
            request = SignInRequest(email=self._email, password=self._password, device_name="weft jobs")
            answer = await stub.SignIn(request, timeout=CALL_S_MAX)
            if answer.WhichOneof("outcome") == "second_step":
                raise NotSignedIn("the administrator has a second factor: sign in by the page instead")
            self._token, self._signed_at = answer.tokens.access_token, time.monotonic()
        return (("authorization", f"Bearer {self._token}"),)


@asynccontextmanager
async def edge() -> AsyncIterator[Edge]:
    """Addresses and sign-in come from the environment that `weft jobs` sets."""
    authority = await asyncio.to_thread(Path(os.environ["WEFT_CA_FILE"]).read_bytes)
    roots = grpc.ssl_channel_credentials(authority)
    async with grpc.aio.secure_channel(urlsplit(os.environ["WEFT_EDGE_URL"]).netloc, roots) as channel:
        yield Edge(channel, os.environ["WEFT_ADMIN_EMAIL"], os.environ["WEFT_ADMIN_PASSWORD"])
