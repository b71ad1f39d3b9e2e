"""Callers through the edge: each goes on with its own work whatever dies, and writes into the ledger."""

import asyncio
import random
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
import httpx

from scripts.journey import Journey, travelling
from tests.chaos.ledger import Ledger
from tests.meshes import Mesh
from weft.identity.v1 import sign_in_pb2, sign_in_pb2_grpc, user_pb2, user_pb2_grpc

DEADLINE_S = 4.0  # Of every call; long enough for a busy machine, short enough to see many in an outage.
HANG_S = DEADLINE_S + 10.0  # A call that has not come back by then never will.
PATIENCE_S = 90.0  # A part that is killed is back by then, also on a busy machine.
PAUSE_S = 0.03  # Between two calls of one caller: the machine is not to be saturated.
REGISTRATION_PAUSE_S = 0.3  # Registering costs a password hash.
CREATORS, MEMBERS, READERS = 3, 3, 2
# A caller that heard of a dead edge is back soon after it, not after gRPC's own minutes.
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]

Metadata = tuple[tuple[str, str], ...]


class Load:
    """All callers of one test."""

    def __init__(self, mesh: Mesh, admin: Metadata, members: list[Journey], chance: random.Random) -> None:
        self.mesh, self.admin, self.ledger, self._members = mesh, admin, Ledger(), members
        self._chance, self._stopping = chance, asyncio.Event()
        self._run = secrets.token_hex(4)  # Keeps this load's addresses apart from another's.
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def calling(self) -> AsyncIterator[None]:
        """While the block runs. Those who wait for an answer then still get it."""
        async with AsyncExitStack() as stack:
            for name, caller in await self._callers(stack):
                self.ledger.answered[name] = 0
                self._tasks.append(asyncio.create_task(caller(name), name=name))
            try:
                yield
            finally:
                self._stopping.set()
                await asyncio.wait_for(asyncio.gather(*self._tasks), PATIENCE_S)

    async def _callers(self, stack: AsyncExitStack) -> list[tuple[str, Callable[[str], Awaitable[None]]]]:
        callers: list[tuple[str, Callable[[str], Awaitable[None]]]] = []
        for number in range(CREATORS):
            channel = await stack.enter_async_context(channel_to(self.mesh))
            users = user_pb2_grpc.UserServiceStub(channel)
            callers.append((f"creator {number}", lambda name, users=users: self._create(name, users)))
        for member in self._members:
            channel = await stack.enter_async_context(channel_to(self.mesh))
            users = user_pb2_grpc.UserServiceStub(channel)
            callers.append(
                (f"member {member.email}", lambda name, m=member, u=users: self._prefer(name, m, u))
            )
        for number in range(READERS):
            callers.append((f"reader {number}", self._read))
        callers.append(("registrant", self._register))
        return callers

    async def progress(self) -> None:
        """Until every caller has had an answer to a call that began after now, or nearly so."""
        seen = dict(self.ledger.answered)
        async with asyncio.timeout(PATIENCE_S):
            while any(self.ledger.answered[name] < count + 2 for name, count in seen.items()):
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(PAUSE_S)

    async def _create(self, name: str, users: Any) -> None:
        """An administrator creates accounts by ids of its own, and repeats what was not answered."""
        while not self._stopping.is_set():
            user_id = str(uuid.uuid4())
            email = f"{user_id}@{self._run}.example"
            self.ledger.tried.add(user_id)
            request = user_pb2.CreateUserRequest(
                user_id=user_id, email=email, profile=user_pb2.Profile(display_name="Ada")
            )
            answer = await self._answered(name, users.CreateUser, request, self.admin)
            if answer.user.user_id != user_id:
                self.ledger.wrong.append(f"another account was answered: {answer.user.user_id}")
            self.ledger.users[user_id] = email
            await asyncio.sleep(PAUSE_S)

    async def _prefer(self, name: str, member: Journey, users: Any) -> None:
        """A member counts in its preferences: what is acknowledged is there until the next."""
        count = 0
        while not self._stopping.is_set():
            count += 1
            request = user_pb2.UpdatePreferencesRequest(user_id=member.user_id, set={"count": str(count)})
            await self._answered(name, users.UpdatePreferences, request, member.bearer)
            self.ledger.counts[member.user_id] = count
            await asyncio.sleep(PAUSE_S)

    async def _answered(self, name: str, rpc: Any, request: Any, metadata: Metadata) -> Any:
        """The answer, however often it has to be asked for."""
        while True:
            try:
                async with asyncio.timeout(HANG_S):
                    answer = await rpc(request, metadata=metadata, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                await asyncio.sleep(self.ledger.note_grpc(name, error) * self._chance.uniform(0.5, 1))
            except TimeoutError:
                self.ledger.wrong.append(f"{name} hung")
            else:
                self.ledger.answered[name] += 1
                return answer

    async def _read(self, name: str) -> None:
        """Reads by REST what was acknowledged: it is never unknown."""
        headers = dict(self.admin)
        async with rest_to(self.mesh) as rest:
            while not self._stopping.is_set():
                if known := list(self.ledger.users):
                    url = f"/v1/users/{self._chance.choice(known)}"
                    await self._asked(name, lambda url=url: rest.get(url, headers=headers))
                await asyncio.sleep(PAUSE_S)

    async def _register(self, name: str) -> None:
        """Registers by REST, each time another address: an accepted one gets its mail."""
        async with rest_to(self.mesh) as rest:
            while not self._stopping.is_set():
                email = f"{secrets.token_hex(6)}@{self._run}.example"
                self.ledger.asked.add(email)
                body = {"email": email, "password": f"a long one {email}", "profile": {"displayName": "Ada"}}
                if await self._asked(name, lambda body=body: rest.post("/v1/registrations", json=body)):
                    self.ledger.accepted.add(email)
                await asyncio.sleep(REGISTRATION_PAUSE_S)

    async def _asked(self, name: str, ask: Callable[[], Awaitable[httpx.Response]]) -> bool:
        """Whether one REST call was answered."""
        try:
            async with asyncio.timeout(HANG_S):
                answer = await ask()
        except httpx.TransportError as error:
            self.ledger.note_broken(name, error)
            return False
        except TimeoutError:
            self.ledger.wrong.append(f"{name} hung")
            return False
        if answer.status_code != httpx.codes.OK:
            await asyncio.sleep(self.ledger.note_http(name, answer) * self._chance.uniform(0.5, 1))
            return False
        self.ledger.answered[name] += 1
        return True


@asynccontextmanager
async def channel_to(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own to the edge, as a gRPC client in another process has it."""
    roots = grpc.ssl_channel_credentials(mesh.ca.read_bytes())
    own = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(urlsplit(mesh.edge).netloc, roots, options=own) as channel:
        yield channel


@asynccontextmanager
async def rest_to(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with travelling(mesh.edge, mesh.ca, mesh.admin) as journey:
        journey.rest.timeout = httpx.Timeout(DEADLINE_S)
        yield journey.rest


async def admin_of(mesh: Mesh) -> Metadata:
    """The first administrator, signed in."""
    email, password = mesh.admin
    async with channel_to(mesh) as channel:
        stub = sign_in_pb2_grpc.SignInServiceStub(channel)
        answer = await stub.SignIn(sign_in_pb2.SignInRequest(email=email, password=password))
    return (("authorization", f"Bearer {answer.tokens.access_token}"),)


@asynccontextmanager
async def load(mesh: Mesh, seed: int) -> AsyncIterator[Load]:
    """A load whose callers have what they need, and do not call yet."""
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(travelling(mesh.edge, mesh.ca, mesh.admin))
            for _ in range(MEMBERS)
        ]
        for member in members:
            await member.register()
            await member.confirm()
            await member.sign_in()
        yield Load(mesh, await admin_of(mesh), members, random.Random(seed))
