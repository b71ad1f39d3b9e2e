"""A laboratory: services with databases, a bus and a channel of their own, for one test.

Ships with the chassis, so that every service is tested the same way: through gRPC, on real servers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from joserfc import jwt
from joserfc.jwk import ECKey

from services.chassis.bus import Bus
from services.chassis.caller import OPERATOR, SERVICE_HEADER, Signer
from services.chassis.clock import Clock, uuid7
from services.chassis.config import Settings
from services.chassis.db import Database
from services.chassis.events import announcement
from services.chassis.host import Build, Hosted, hosting
from services.chassis.relay import publish
from services.chassis.telemetry import Tracing

ISSUER = "https://lab.test"
TOKEN_S = 600
POLL_S = 0.02
WAIT_S = 30.0  # How long a test waits for what must come, on a machine that is busy.
BASE = Settings(
    development=True,
    address="127.0.0.1:0",
    mesh_address="127.0.0.1:1",  # Nobody: a lab calls what it hosts, and nothing else.
    issuer=ISSUER,
    drain_s=1.0,
)


@dataclass
class Lab:
    """A process under test. Made by `laboratory`."""

    hosted: Hosted
    channel: grpc.aio.Channel  # To the process's socket, as the edge would call.
    clock: Clock
    settings: Settings
    bus: Bus
    key: ECKey = field(repr=False)

    def bearer(self, subject: str = "", **claims: Any) -> tuple[tuple[str, str], ...]:
        """Metadata of a signed-in caller. `scope` is a space separated string; the default grants all."""
        now = self.clock.now().timestamp()
        token = {"iss": ISSUER, "aud": self.settings.audience, "sub": subject or str(uuid7())}
        times = {
            "iat": int(now),
            "exp": int(now) + TOKEN_S,
            "auth_time": int(now),
            "jti": secrets.token_hex(8),
        }
        body = {**token, **times, "scope": "*", "kind": "user", **claims}
        signed = jwt.encode({"alg": "ES256", "kid": self.key.kid}, body, self.key)
        return (("authorization", f"Bearer {signed}"),)

    def as_service(self, name: str = OPERATOR) -> tuple[tuple[str, str], ...]:
        """Metadata of a call from a service of the mesh, or from whoever operates it."""
        return ((SERVICE_HEADER, Signer(name, self.settings.mesh_key, self.clock).token()),)

    def db(self, service: str) -> Database:
        """The service's own database object, to look at rows after acting through the API."""
        return self.hosted.tools[service].db

    async def announce(self, event: Message, event_id: UUID | None = None) -> UUID:
        """Publishes `event` as its producer's relay would. Returns its id."""
        now = self.clock.now()
        announced = announcement(event, event_id or uuid7(now), now)
        await self.bus.ensure_stream(announced.service)
        await publish(self.bus, [announced])
        return announced.id


@asynccontextmanager
async def laboratory(
    builds: Mapping[str, Build],
    *,
    postgres_url: str,
    nats_url: str,
    clock: Clock | None = None,
    tracing: Tracing | None = None,
    settings: Mapping[str, Any] | None = None,
) -> AsyncIterator[Lab]:
    """Hosts `builds`, each with a fresh database; drops all of it afterwards.

    `postgres_url` names a superuser's database, `nats_url` a server of this lab's own (durable consumers
    of two labs would share their messages); `settings` overrides fields of Settings.
    """
    async with AsyncExitStack() as stack:
        urls = await _fresh(stack, postgres_url, list(builds))
        chosen = replace(BASE, database_url=urls, nats_url=nats_url, **(settings or {}))
        time = clock or Clock()
        hosted = await stack.enter_async_context(hosting(builds, chosen, clock=time, tracing=tracing))
        key = await _trust(hosted)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{hosted.port}")
        await stack.enter_async_context(channel)
        bus = next(iter(hosted.tools.values())).bus
        yield Lab(hosted, channel, time, chosen, bus, key)


async def _fresh(stack: AsyncExitStack, postgres_url: str, names: Sequence[str]) -> str:
    """An empty database for each service, dropped in the end. Returns their URL with `{name}` in it."""
    prefix = f"lab_{secrets.token_hex(6)}_"
    admin = await asyncpg.connect(postgres_url)
    stack.push_async_callback(admin.close)
    for name in names:
        await admin.execute(f"create database {prefix}{name}")
        stack.push_async_callback(admin.execute, f"drop database if exists {prefix}{name} with (force)")
    parts = urlsplit(postgres_url)
    return urlunsplit(parts._replace(path=f"/{prefix}{{name}}"))


async def _trust(hosted: Hosted) -> ECKey:
    """A key that this process accepts tokens of, beside those of a real issuer hosted here."""
    key = ECKey.generate_key("P-256", auto_kid=True)
    tools = next(iter(hosted.tools.values()))
    tools.verifier.trust(key.as_dict(private=False))
    return key


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The google.rpc.Status of a failed call."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the sync API
    assert status is not None, f"no rich status: {error.code()} {error.details()}"
    return status


def reason(error: grpc.aio.AioRpcError) -> str:
    """Its ErrorInfo reason; empty when it has none."""
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status_of(error).details if detail.Unpack(info)), "")


def broken_fields(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """Description by field of its BadRequest."""
    bad = error_details_pb2.BadRequest()
    for detail in status_of(error).details:
        detail.Unpack(bad)
    return {violation.field: violation.description for violation in bad.field_violations}


async def until(condition: Callable[[], Awaitable[Any]], wait_s: float = WAIT_S) -> Any:
    """The first true value of `condition()`. Raises TimeoutError after `wait_s`."""
    async with asyncio.timeout(wait_s):
        while not (value := await condition()):  # noqa: ASYNC110 - any condition, of any server
            await asyncio.sleep(POLL_S)
        return value
