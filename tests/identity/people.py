"""What people do with identity, through gRPC, as tests tell it."""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc.aio

from services.chassis.clock import FakeClock
from services.chassis.host import Parts
from services.chassis.method import Call
from services.chassis.testing import Lab, reason, until
from services.identity.domain.second_factor import STEP_S, code_at
from services.identity.service.shared import Shared
from services.identity.service.sign_in import SignIn
from weft.identity.v1 import (
    activity_pb2_grpc,
    email_pb2_grpc,
    key_pb2_grpc,
    password_pb2_grpc,
    role_pb2_grpc,
    second_factor_pb2,
    second_factor_pb2_grpc,
    session_pb2_grpc,
    sign_in_pb2,
    sign_in_pb2_grpc,
    user_import_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)
from weft.notification.v1 import notification_pb2
from weft.notification.v1.notification_pb2_grpc import NotificationServiceServicer

ADMIN_EMAIL, ADMIN_PASSWORD = "root@weft.test", "first of the administrators"
PASSWORD = "analytical engines weave"
Metadata = tuple[tuple[str, str], ...]


class Mailbox(NotificationServiceServicer):
    """Takes what identity sends; a message id that comes twice is one message."""

    def __init__(self) -> None:
        self.messages: dict[str, notification_pb2.SendMessageRequest] = {}

    async def SendMessage(
        self, request: notification_pb2.SendMessageRequest, call: Call
    ) -> notification_pb2.SendMessageResponse:
        self.messages.setdefault(request.message_id, request)
        return notification_pb2.SendMessageResponse()

    def to(self, address: str, template: str) -> list[notification_pb2.SendMessageRequest]:
        found = self.messages.values()
        return [m for m in found if m.recipient.address == address and m.template == template]


@dataclass
class Person:
    """Somebody signed in."""

    tokens: sign_in_pb2.TokenPair

    @property
    def user_id(self) -> str:
        return self.tokens.user_id

    @property
    def bearer(self) -> Metadata:
        return (("authorization", f"Bearer {self.tokens.access_token}"),)


@dataclass
class Running:
    """The service under test, its clock and what it mails."""

    lab: Lab
    clock: FakeClock
    mailbox: Mailbox
    parts: Parts

    def shared(self) -> Shared:
        """What the servicers share, taken out of the running service."""
        sign_in = next(made for made in self.parts.servicers.values() if isinstance(made, SignIn))
        return sign_in._shared


@dataclass
class World:
    """One test's view of the service, and its own people."""

    running: Running
    tag: str  # Keeps the people and machines of one test apart from those of another.

    def __post_init__(self) -> None:
        self.lab, self.clock, self.mailbox = self.running.lab, self.running.clock, self.running.mailbox
        channel = self.lab.channel
        self.sign_in_service = sign_in_pb2_grpc.SignInServiceStub(channel)
        self.passwords = password_pb2_grpc.PasswordServiceStub(channel)
        self.emails = email_pb2_grpc.EmailServiceStub(channel)
        self.users = user_pb2_grpc.UserServiceStub(channel)
        self.imports = user_import_pb2_grpc.UserImportServiceStub(channel)
        self.factors = second_factor_pb2_grpc.SecondFactorServiceStub(channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(channel)
        self.roles = role_pb2_grpc.RoleServiceStub(channel)
        self.keys = key_pb2_grpc.KeyServiceStub(channel)
        self.activity = activity_pb2_grpc.ActivityServiceStub(channel)

    @property
    def ada(self) -> str:
        """The address of whom most tests are about."""
        return self.at("ada")

    def at(self, name: str) -> str:
        return f"{name}@{self.tag}.test"

    @property
    def address(self) -> str:
        """The IP address that this test's calls come from."""
        return f"2001:db8::{self.tag[:4]}:{self.tag[4:8]}"

    async def register(self, email: str = "", password: str = PASSWORD, name: str = "Ada") -> None:
        profile = user_pb2.Profile(display_name=name)
        request = sign_in_pb2.RegisterRequest(email=email or self.ada, password=password, profile=profile)
        await self.sign_in_service.Register(request)

    async def token(self, email: str = "", template: str = "confirm_email", nth: int = 0) -> str:
        """The code of a mail, once it is there."""
        message = await self.mail(email, template, nth)
        return parse_qs(urlsplit(message.values["link"]).query)["token"][0]

    async def mail(self, email: str, template: str, nth: int = 0) -> notification_pb2.SendMessageRequest:
        async def there() -> Any:
            found = self.mailbox.to(email or self.ada, template)
            return found[nth] if len(found) > nth else None

        message: notification_pb2.SendMessageRequest = await until(there)
        return message

    async def open_account(self, email: str = "", password: str = PASSWORD, name: str = "Ada") -> str:
        await self.register(email, password, name)
        request = sign_in_pb2.ConfirmRegistrationRequest(token=await self.token(email))
        response = await self.sign_in_service.ConfirmRegistration(request)
        user_id: str = response.user_id
        return user_id

    async def try_sign_in(
        self, email: str = "", password: str = PASSWORD, agent: str = "tests/1"
    ) -> sign_in_pb2.SignInResponse:
        metadata = (("x-forwarded-for", self.address), ("x-user-agent", agent))
        request = sign_in_pb2.SignInRequest(email=email or self.ada, password=password)
        response: sign_in_pb2.SignInResponse = await self.sign_in_service.SignIn(request, metadata=metadata)
        return response

    async def sign_in(self, email: str = "", password: str = PASSWORD, agent: str = "tests/1") -> Person:
        response = await self.try_sign_in(email, password, agent)
        assert response.WhichOneof("outcome") == "tokens"
        return Person(response.tokens)

    async def person(self, email: str = "", password: str = PASSWORD) -> Person:
        await self.open_account(email, password)
        return await self.sign_in(email, password)

    async def admin(self) -> Person:
        return await self.sign_in(ADMIN_EMAIL, ADMIN_PASSWORD)

    async def enrol(self, person: Person) -> tuple[str, list[str]]:
        """An authenticator app: its secret, and the recovery codes."""
        request = second_factor_pb2.EnrollTotpRequest()
        secret: str = (await self.factors.EnrollTotp(request, metadata=person.bearer)).secret
        confirm = second_factor_pb2.ConfirmTotpRequest(totp_code=self.totp(secret))
        response = await self.factors.ConfirmTotp(confirm, metadata=person.bearer)
        return secret, list(response.recovery_codes)

    def totp(self, secret: str, steps: int = 0) -> str:
        return code_at(secret, int(self.clock.now().timestamp()) // STEP_S + steps)

    def next_step(self) -> None:
        """On to the next TOTP step, where a new code is good."""
        self.clock.advance(STEP_S)

    async def ticket(self, email: str = "", password: str = PASSWORD) -> str:
        response = await self.try_sign_in(email, password)
        assert response.WhichOneof("outcome") == "second_step"
        ticket: str = response.second_step.ticket
        return ticket


async def refused(call: Any) -> str:
    """The reason of a call's refusal. An answer in its place fails the test."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error)
    raise AssertionError("the call was answered")


async def outcomes(*calls: Any) -> tuple[int, set[str]]:
    """How many of parallel calls were answered, and the reasons of the others."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(failure, grpc.aio.AioRpcError) for failure in failures), failures
    reasons = {reason(failure) for failure in failures if isinstance(failure, grpc.aio.AioRpcError)}
    return len(results) - len(failures), reasons
