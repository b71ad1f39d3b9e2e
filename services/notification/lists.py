"""What may be listed, by which fields, in which order."""

from collections.abc import Sequence

from sqlalchemy import select

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.notification.domain import Mail, Message, State, Suppression
from services.notification.store import received_by

MESSAGES = Listing(
    {
        "create_time": Field(Message.create_time),
        "message_id": Field(Message.message_id, order=False),
        "user_id": Field(Message.user_id, order=False),
        "template": Field(Message.template, order=False),
        "channel": Field(Message.channel, order=False),
        "state": Field(Message.state, order=False, values={state.value: state.value for state in State}),
        "attempts": Field(Message.attempts, order=False),
    },
    "create_time desc",
    "message_id",
)
SUPPRESSIONS = Listing(
    {
        "create_time": Field(Suppression.create_time),
        "suppression_id": Field(Suppression.suppression_id, order=False),
        "address": Field(Suppression.address_key, order=False),
        "status": Field(Suppression.status, order=False),
    },
    "create_time desc",
    "suppression_id",
)
MAIL = Listing({"sequence": Field(Mail.sequence)}, "sequence desc", "sequence")


async def messages(tx: Tx, page: Page) -> tuple[Sequence[Message], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Message)))).all())


async def suppressions(tx: Tx, page: Page) -> tuple[Sequence[Suppression], str]:
    return page.cut((await tx.scalars(page.select(select(Suppression)))).all())


async def mail(tx: Tx, page: Page, recipient: str) -> tuple[Sequence[Mail], str]:
    wanted = select(Mail).where(received_by(recipient)) if recipient else select(Mail)
    return page.cut((await tx.scalars(page.select(wanted))).all())
