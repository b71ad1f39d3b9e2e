"""What is good once is good once, however many callers use it at the same time through the edge."""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import grpc.aio
import httpx
import pyotp
import pytest

from scripts.journey import TOTP_STEP_S, Journey, soon, travelling
from tests.chaos.load import Metadata, admin_of, channel_to
from tests.meshes import Mesh
from weft.identity.v1 import (
    oauth_client_pb2,
    oauth_client_pb2_grpc,
    password_pb2,
    password_pb2_grpc,
    second_factor_pb2,
    second_factor_pb2_grpc,
    sign_in_pb2 as pb,
    sign_in_pb2_grpc,
)

USES = 64
REDIRECT = "https://app.example/back"


@pytest.fixture
async def channel(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    async with channel_to(mesh) as channel:
        yield channel


@pytest.fixture
async def person(mesh: Mesh) -> AsyncIterator[Journey]:
    """Somebody who has not registered yet."""
    async with travelling(mesh.edge, mesh.ca, mesh.admin) as journey:
        yield journey


@pytest.fixture
async def member(person: Journey) -> Journey:
    """Somebody with an account, signed in."""
    await person.register()
    await person.confirm()
    await person.sign_in()
    return person


async def used(use: Callable[[int], Awaitable[Any]]) -> Counter[str]:
    """What came of USES uses at the same time: "used", or the refusal's code."""
    answers = await asyncio.gather(*(use(number) for number in range(USES)), return_exceptions=True)
    return Counter(_said(answer) for answer in answers)


def _said(answer: Any) -> str:
    if isinstance(answer, grpc.aio.AioRpcError):
        return str(answer.code().name)
    if isinstance(answer, BaseException):
        raise answer
    return "used"


async def code_of(person: Journey, page: str) -> str:
    """The code of the latest mail with a link to a page."""

    async def mailed() -> str | None:
        listed = (await person.rest.get("/v1/mailbox", params={"recipient": person.email})).json()
        for mail in listed.get("mail", []):
            whole = (await person.rest.get(f"/v1/mailbox/{mail['mailId']}")).json()["mail"]
            for link in whole.get("links", []):
                if page in urlsplit(link).path:
                    return parse_qs(urlsplit(link).query)["token"][0]
        return None

    return str(await soon(mailed))


async def test_a_confirmation_code_opens_one_account(person: Journey, channel: Any) -> None:
    await person.register()
    request = pb.ConfirmRegistrationRequest(token=await code_of(person, "confirm"))
    stub = sign_in_pb2_grpc.SignInServiceStub(channel)
    came = await used(lambda _: stub.ConfirmRegistration(request))
    assert came == {"used": 1, "FAILED_PRECONDITION": USES - 1}


async def test_a_reset_code_sets_one_password(member: Journey, channel: Any) -> None:
    stub = password_pb2_grpc.PasswordServiceStub(channel)
    await stub.RequestPasswordReset(password_pb2.RequestPasswordResetRequest(email=member.email))
    token = await code_of(member, "reset")

    def new(number: int) -> str:
        return f"the new password of use {number}"

    winners: list[int] = []

    async def use(number: int) -> None:
        await stub.ResetPassword(password_pb2.ResetPasswordRequest(token=token, new_password=new(number)))
        winners.append(number)

    assert await used(use) == {"used": 1, "FAILED_PRECONDITION": USES - 1}
    member.password = new(winners[0])
    await member.sign_in()


async def test_a_totp_step_and_a_recovery_code_each_finish_one_sign_in(member: Journey, channel: Any) -> None:
    factors = second_factor_pb2_grpc.SecondFactorServiceStub(channel)
    enrolled = await factors.EnrollTotp(second_factor_pb2.EnrollTotpRequest(), metadata=member.bearer)
    app = pyotp.TOTP(enrolled.secret)
    confirm = second_factor_pb2.ConfirmTotpRequest(totp_code=app.now())
    recovery = (await factors.ConfirmTotp(confirm, metadata=member.bearer)).recovery_codes[0]
    stub = sign_in_pb2_grpc.SignInServiceStub(channel)

    async def ticket() -> str:
        request = pb.SignInRequest(email=member.email, password=member.password)
        return str((await stub.SignIn(request)).second_step.ticket)

    async def finish(ticket: str, **proof: str) -> None:
        await stub.CompleteSignIn(pb.CompleteSignInRequest(ticket=ticket, **proof))  # type: ignore[arg-type]

    tickets = await asyncio.gather(*(ticket() for _ in range(USES + 1)))
    code = app.at(int(time.time()) + TOTP_STEP_S)  # The present step was used up by the confirmation.
    spent: list[str] = []

    async def by_app(number: int) -> None:
        await finish(tickets[number], totp_code=code)
        spent.append(tickets[number])

    assert await used(by_app) == {"used": 1, "UNAUTHENTICATED": USES - 1}
    left = [each for each in tickets if each not in spent]
    came = await used(lambda number: finish(left[number], recovery_code=recovery))
    assert came == {"used": 1, "UNAUTHENTICATED": USES - 1}


async def test_a_refresh_token_is_exchanged_once(member: Journey, channel: Any) -> None:
    stub = sign_in_pb2_grpc.SignInServiceStub(channel)
    signed_in = await stub.SignIn(pb.SignInRequest(email=member.email, password=member.password))
    request = pb.RefreshRequest(refresh_token=signed_in.tokens.refresh_token)
    assert await used(lambda _: stub.Refresh(request)) == {"used": 1, "UNAUTHENTICATED": USES - 1}


async def test_an_authorization_code_is_exchanged_once(mesh: Mesh, member: Journey, channel: Any) -> None:
    client_id, secret = await application(channel, await admin_of(mesh))
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT,
        "scope": "openid",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    decided = {"query": urlencode(asked), "decision": "CONSENT_DECISION_GRANT"}
    headers = {"authorization": f"Bearer {member.access}"}
    consented = await member.rest.post("/v1/authorizations", json=decided, headers=headers)
    back = parse_qs(urlsplit(consented.json()["redirectUri"]).query)
    form = {
        "grant_type": "authorization_code",
        "code": back["code"][0],
        "redirect_uri": REDIRECT,
        "code_verifier": verifier,
        "client_id": client_id,
        "client_secret": secret,
    }
    answers = await asyncio.gather(*(member.rest.post("/oauth2/token", data=form) for _ in range(USES)))
    assert Counter(told(answer) for answer in answers) == {"used": 1, "invalid_grant": USES - 1}


def told(answer: httpx.Response) -> str:
    """As the token endpoint tells it (RFC 6749 5.2)."""
    body = json.loads(answer.text)
    return "used" if answer.status_code == httpx.codes.OK else str(body["error"])


async def application(channel: Any, admin: Metadata) -> tuple[str, str]:
    """A confidential client's id and secret."""
    settings = oauth_client_pb2.OAuthClientSettings(
        name="Planner",
        redirect_uris=[REDIRECT],
        grant_types=[oauth_client_pb2.O_AUTH_GRANT_TYPE_AUTHORIZATION_CODE],
    )
    request = oauth_client_pb2.CreateOAuthClientRequest(settings=settings, confidential=True)
    stub = oauth_client_pb2_grpc.OAuthClientServiceStub(channel)
    created = await stub.CreateOAuthClient(request, metadata=admin)
    return created.client.client_id, created.client_secret
