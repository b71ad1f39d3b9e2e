"""One person's way through the mesh, by every door, as a client makes it; `weft demo` and tests walk it."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc.aio
import httpx
import pyotp
from grpclib.client import Channel
from weft_client.weft.identity import v1 as outside

from scripts.browser import Browser, find_browser
from weft.identity.v1 import (
    activity_pb2,
    activity_pb2_grpc,
    second_factor_pb2,
    second_factor_pb2_grpc,
    sign_in_pb2,
    sign_in_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)

WAIT_S = 30.0  # For a mail, an event, a page.
TOTP_STEP_S = 30
POLL_S = 0.1


class StepFailed(Exception):
    """The mesh did not do what the demo relies on."""


@dataclass
class Journey:
    """One person's way through the mesh, and what is learnt on it."""

    edge: str
    ca: str
    rest: httpx.AsyncClient
    channel: grpc.aio.Channel
    email: str = field(default_factory=lambda: f"ada.{secrets.token_hex(4)}@weft.example")
    password: str = field(default_factory=lambda: f"correct horse {secrets.token_hex(6)}")
    display_name: str = "Ада Лавлейс 🧵"
    user_id: str = ""
    access: str = ""
    totp_secret: str = ""
    api_key: str = ""
    seen: list[str] = field(default_factory=list)  # Kinds of activity that the live stream showed.
    browser: str = ""  # How the browser's sign-in was done.
    admin: tuple[str, str] = ("", "")  # Address and password.

    @property
    def bearer(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.access}"),)

    async def register(self) -> None:
        body = {
            "email": self.email,
            "password": self.password,
            "profile": {"displayName": self.display_name, "locale": "en", "zone": "Europe/Vienna"},
        }
        _ok(await self.rest.post("/v1/registrations", json=body))

    async def confirm(self) -> None:
        link = await self.mailed_link()
        page = await self.rest.get(link)
        if page.status_code != httpx.codes.OK:
            raise StepFailed(f"the mail's link answers {page.status_code}")
        token = parse_qs(urlsplit(link).query)["token"][0]
        self.user_id = _ok(await self.rest.post("/v1/registrations:confirm", json={"token": token}))["userId"]

    async def mailed_link(self) -> str:
        """The first link of a mail to this person."""
        return str(await soon(self._mailed_link))

    async def _mailed_link(self) -> str | None:
        listed = _ok(await self.rest.get("/v1/mailbox", params={"recipient": self.email}))
        for mail in listed.get("mail", []):
            whole = _ok(await self.rest.get(f"/v1/mailbox/{mail['mailId']}"))["mail"]
            if links := whole.get("links"):
                return str(links[0])
        return None

    async def sign_in_by_browser(self) -> None:
        executable = find_browser()
        if executable is None:
            self.browser = "no Chromium is installed: by the gRPC door in its place"
            await self.sign_in()
            return
        async with Browser.open(executable) as browser:
            self.access = await browser.sign_in(self.edge, self.email, self.password)
        self.browser = "headless Chromium"

    async def sign_in(self) -> None:
        stub = sign_in_pb2_grpc.SignInServiceStub(self.channel)
        request = sign_in_pb2.SignInRequest(email=self.email, password=self.password, device_name="demo")
        answer = await stub.SignIn(request)
        tokens = answer.tokens
        if answer.WhichOneof("outcome") == "second_step":
            tokens = (await self._second_step(stub, answer.second_step.ticket)).tokens
        self.access = tokens.access_token

    async def _second_step(self, stub: Any, ticket: str) -> Any:
        """A code is good once, so the next one may have to be waited for."""
        code = pyotp.TOTP(self.totp_secret).at(int(time.time()) + TOTP_STEP_S)  # One step early is allowed.
        return await stub.CompleteSignIn(sign_in_pb2.CompleteSignInRequest(ticket=ticket, totp_code=code))

    async def enrol(self) -> int:
        stub = second_factor_pb2_grpc.SecondFactorServiceStub(self.channel)
        enrolment = await stub.EnrollTotp(second_factor_pb2.EnrollTotpRequest(), metadata=self.bearer)
        self.totp_secret = enrolment.secret
        code = pyotp.TOTP(self.totp_secret).now()
        answer = await stub.ConfirmTotp(
            second_factor_pb2.ConfirmTotpRequest(totp_code=code), metadata=self.bearer
        )
        return len(answer.recovery_codes)

    async def call_by_grpc(self) -> str:
        stub = user_pb2_grpc.UserServiceStub(self.channel)
        me = await stub.GetMe(user_pb2.GetMeRequest(), metadata=self.bearer)
        return str(me.user.profile.display_name)

    async def call_by_rest_with_key(self) -> str:
        headers = {"authorization": f"Bearer {self.access}"}
        body = {"ownerId": self.user_id, "name": "demo"}
        self.api_key = _ok(await self.rest.post("/v1/api-keys", json=body, headers=headers))["key"]
        mine = await self.rest.get(f"/v1/users/{self.user_id}", headers={"x-api-key": self.api_key})
        return str(_ok(mine)["user"]["email"])

    async def call_by_betterproto(self) -> str:
        parts = urlsplit(self.edge)
        trusted = ssl.create_default_context(cafile=self.ca)
        trusted.set_alpn_protocols(["h2"])
        async with Channel(str(parts.hostname), int(parts.port or 443), ssl=trusted) as channel:
            stub = outside.UserServiceStub(channel, metadata=dict(self.bearer))
            answer = await stub.get_me(outside.GetMeRequest())
        assert answer.user is not None
        return answer.user.email

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Tells the account's activity as it comes, by a gRPC stream, while the block runs."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        stub = activity_pb2_grpc.ActivityServiceStub(self.channel)
        request = activity_pb2.WatchActivityRequest(user_id=self.user_id)
        async for answer in stub.WatchActivity(request, metadata=self.bearer):
            if answer.WhichOneof("item") == "activity":
                kind = activity_pb2.ActivityKind.Name(answer.activity.kind).removeprefix("ACTIVITY_KIND_")
                self.seen.append(kind)
                tell(f"    live: {kind.replace('_', ' ').lower()}")

    async def seen_live(self, kind: str) -> None:
        """Waits until the stream has shown this kind of activity."""

        async def seen() -> bool:
            return kind in self.seen

        await soon(seen)

    async def verify_trail(self) -> tuple[int, int]:
        """Entries about this person, and entries of the whole chain, verified."""
        email, password = self.admin
        signed = await self.rest.post("/v1/sessions", json={"email": email, "password": password})
        headers = {"authorization": f"Bearer {_ok(signed)['tokens']['accessToken']}"}
        about = {"subject_id": self.user_id, "page_size": 200}

        async def entries() -> Any:
            return _ok(await self.rest.get("/v1/audit/entries", params=about, headers=headers)).get("entries")

        mine = await soon(entries)
        verdict = _ok(await self.rest.get("/v1/audit/chain:verify", headers=headers))
        if not verdict.get("intact"):
            raise StepFailed(f"the audit trail is broken: {verdict}")
        return len(mine), int(verdict["entries"])


async def soon(ask: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer of `ask`. Raises TimeoutError after WAIT_S."""
    async with asyncio.timeout(WAIT_S):
        while not (answer := await ask()):  # noqa: ASYNC110 - the mesh is asked, not this process
            await asyncio.sleep(POLL_S)
        return answer


def _ok(answer: httpx.Response) -> Any:
    if answer.status_code != httpx.codes.OK:
        raise StepFailed(
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}"
        )
    return answer.json()


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@asynccontextmanager
async def travelling(edge: str, ca_file: Path, admin: tuple[str, str]) -> AsyncIterator[Journey]:
    """A journey with its connections open. `admin` is the first administrator's address and password."""
    roots = _roots(ca_file)
    trusted = ssl.create_default_context(cafile=str(ca_file))
    async with AsyncExitStack() as stack:
        client = httpx.AsyncClient(base_url=edge, verify=trusted, timeout=WAIT_S)
        rest = await stack.enter_async_context(client)
        channel = grpc.aio.secure_channel(urlsplit(edge).netloc, roots)
        await stack.enter_async_context(channel)
        yield Journey(edge, str(ca_file), rest, channel, admin=admin)


def _roots(ca_file: Path) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(ca_file.read_bytes())
