"""Who calls while faults are done: real accounts, signed in, each by a connection of its own to the edge."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio

from weft.identity.v1.sign_in_pb2 import SignInRequest
from weft.identity.v1.sign_in_pb2_grpc import SignInServiceStub
from weft.identity.v1.user_pb2 import CreateUserRequest, GetUserRequest, Profile
from weft.identity.v1.user_pb2_grpc import UserServiceStub

PERSONS = 8  # Each may read 100 times a second, by the edge's limit.
DEADLINE_S = 5.0  # Of every call: nobody looks at a page for longer.
PREPARE_S_MAX = 30.0  # Of each call before anything is done.
# Who heard of a dead edge is back soon after it, not after gRPC's own minutes.
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
]

Metadata = tuple[tuple[str, str], ...]


class NotReady(Exception):
    """The users could not be made or signed in."""


@dataclass
class Person:
    """One account, and its way to the edge."""

    email: str
    password: str = field(repr=False)
    channel: grpc.aio.Channel
    user_id: str = ""
    who: Metadata = ()

    def __post_init__(self) -> None:
        self.users: Any = UserServiceStub(self.channel)
        self._doors: Any = SignInServiceStub(self.channel)

    async def sign_in(self, seconds_max: float) -> None:
        request = SignInRequest(email=self.email, password=self.password, device_name="weft chaos")
        answer = await self._doors.SignIn(request, timeout=seconds_max)
        if answer.WhichOneof("outcome") == "second_step":
            raise NotReady("the administrator has a second factor: the load cannot sign in")
        if not self.who:
            self.user_id = answer.tokens.user_id
            self.who = (("authorization", f"Bearer {answer.tokens.access_token}"),)


class Users:
    """All of them, and what was acknowledged to them."""

    def __init__(self, admin: Person, persons: list[Person], run: str) -> None:
        self.admin, self.run = admin, run
        self.acknowledged: dict[str, str] = {}  # Address by the id that the caller chose.
        self._persons = persons
        self._turn = itertools.cycle(persons)

    def call(self, kind: str) -> Awaitable[None]:
        """One call of a kind. Raises AioRpcError."""
        calls: Mapping[str, Any] = {"read": self._read, "write": self._write, "sign_in": self._sign_in}
        made: Awaitable[None] = calls[kind]()
        return made

    async def _read(self) -> None:
        person = next(self._turn)
        request = GetUserRequest(user_id=person.user_id)
        await person.users.GetUser(request, metadata=person.who, timeout=DEADLINE_S)

    async def _write(self) -> None:
        """By the administrator, through anybody's connection."""
        user_id = str(uuid.uuid4())
        email = f"{user_id}@{self.run}"
        request = CreateUserRequest(user_id=user_id, email=email, profile=Profile(display_name="Chaos"))
        door = next(self._turn).users
        await door.CreateUser(request, metadata=self.admin.who, timeout=DEADLINE_S)
        self.acknowledged[user_id] = email

    async def _sign_in(self) -> None:
        await next(self._turn).sign_in(DEADLINE_S)

    async def prepare(self) -> None:
        """Accounts for all, signed in one after the other: each costs a password's hash. Raises NotReady."""
        try:
            await self.admin.sign_in(PREPARE_S_MAX)
            for each in self._persons:
                await self.admin.users.CreateUser(
                    CreateUserRequest(
                        email=each.email, password=each.password, profile=Profile(display_name="Chaos")
                    ),
                    metadata=self.admin.who,
                    timeout=PREPARE_S_MAX,
                )
                await each.sign_in(PREPARE_S_MAX)
        except grpc.aio.AioRpcError as error:
            raise NotReady(f"{error.code().name}: {error.details()}") from error


@asynccontextmanager
async def arriving(edge_url: str, authority: Path, email: str, password: str) -> AsyncIterator[Users]:
    """Users who are ready to call."""
    roots = grpc.ssl_channel_credentials(await asyncio.to_thread(authority.read_bytes))
    run = f"chaos-{secrets.token_hex(4)}.weft.example"
    async with AsyncExitStack() as stack:

        async def person(email: str, password: str) -> Person:
            channel = grpc.aio.secure_channel(urlsplit(edge_url).netloc, roots, options=OPTIONS)
            await stack.enter_async_context(channel)
            return Person(email, password, channel)

        admin = await person(email, password)
        others = [
            await person(f"user{n}@{run}", f"correct horse {secrets.token_hex(8)}") for n in range(PERSONS)
        ]
        users = Users(admin, others, run)
        await users.prepare()
        yield users
