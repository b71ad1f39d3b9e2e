"""What tests of notification have in common: a lab, messages to send, and an eye on what becomes of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from services.chassis.clock import Clock, uuid7
from services.chassis.testing import Lab, laboratory, until
from services.notification.app import build
from tests.servers import Shared
from weft.notification.v1 import mailbox_pb2, notification_pb2 as pb
from weft.notification.v1.mailbox_pb2_grpc import MailboxServiceStub
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub

MAILBOX = {"WEFT_NOTIFICATION_MAILBOX": "1", "WEFT_NOTIFICATION_MAILBOX_ADDRESS": "127.0.0.1:0"}
SWIFT = {"WEFT_NOTIFICATION_RETRY_FIRST_S": "0.05", "WEFT_NOTIFICATION_RETRY_MAX_S": "0.2"}
LINK = "https://weft.example/confirm?code=K7Q4"
EXAMPLE = {"link": LINK, "code": "K7Q4", "display_name": "Ada"}


@asynccontextmanager
async def notification(
    servers: Shared, clock: Clock | None = None, *, relay: int = 0, **settings: str
) -> AsyncIterator[Lab]:
    """With the mailbox, or with a relay at that port. `settings` as in NotificationSettings."""
    own = {f"WEFT_NOTIFICATION_{name.upper()}": value for name, value in settings.items()}
    way = {"WEFT_NOTIFICATION_SMTP_PORT": str(relay)} if relay else MAILBOX
    builds = {"notification": partial(build, environ={**SWIFT, **way, **own})}
    postgres, nats = servers.postgres(), servers.account()
    async with laboratory(builds, postgres_url=postgres, nats_url=nats, clock=clock) as lab:
        yield lab


def wanted(template: str = "confirm_email", **recipient: str) -> pb.SendMessageRequest:
    to = {"user_id": str(uuid7()), "address": "ada@example.com", "locale": "en", **recipient}
    return pb.SendMessageRequest(
        message_id=str(uuid7()), template=template, recipient=pb.Recipient(**to), values=EXAMPLE
    )


async def send(lab: Lab, request: pb.SendMessageRequest | None = None) -> pb.Message:
    stub = NotificationServiceStub(lab.channel)
    answer = await stub.SendMessage(request or wanted(), metadata=lab.as_service("identity"))
    message: pb.Message = answer.message
    return message


async def get(lab: Lab, message_id: str) -> pb.GetMessageResponse:
    stub, request = NotificationServiceStub(lab.channel), pb.GetMessageRequest(message_id=message_id)
    answer: pb.GetMessageResponse = await stub.GetMessage(request, metadata=lab.bearer())
    return answer


async def becomes(lab: Lab, message_id: str, state: int) -> pb.GetMessageResponse:
    """Waits for the state. A message that settles otherwise never gets there."""

    async def there() -> pb.GetMessageResponse | None:
        found = await get(lab, message_id)
        return found if found.message.state == state else None

    answer: pb.GetMessageResponse = await until(there)
    return answer


async def mails(lab: Lab, count: int = 1) -> Sequence[mailbox_pb2.Mail]:
    """Whole, newest first, once there are `count`."""
    stub = MailboxServiceStub(lab.channel)

    async def there() -> Sequence[mailbox_pb2.Mail]:
        listed = (await stub.ListMail(mailbox_pb2.ListMailRequest(page_size=200))).mail
        return listed if len(listed) >= count else []

    listed = await until(there)
    found = [await stub.GetMail(mailbox_pb2.GetMailRequest(mail_id=mail.mail_id)) for mail in listed]
    return [answer.mail for answer in found]


async def events(lab: Lab) -> list[str]:
    """Short names of what was announced, in order."""
    rows = await lab.db("notification").fetch("select type from event order by position")
    return [row["type"].rpartition(".")[2] for row in rows]
