"""The queries that are more than one `tx.get`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Text, any_, cast, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.chassis.db import Tx
from services.notification.domain import (
    WAKE_AGAIN,
    Attempt,
    Mail,
    Message,
    OptOut,
    Suppression,
    UnknownMessage,
    UnknownSuppression,
    address_key,
)

WAKE_MAX = 100  # Messages woken in one transaction; the rest a second later.
ERASE_MAX = 1_000  # Messages whose values are erased in one statement.


async def accept(tx: Tx, row: Message) -> tuple[Message, bool]:
    """Writes `row` unless its id is taken. Returns what is stored, and whether it is new."""
    fields = {column.key: getattr(row, column.key) for column in Message.__table__.columns}
    new = insert(Message).values(fields).on_conflict_do_nothing(index_elements=["message_id"])
    fresh = (await tx.execute(new.returning(Message.message_id))).first() is not None
    return await found(tx, row.message_id), fresh


async def found(tx: Tx, message_id: UUID) -> Message:
    """Raises UnknownMessage."""
    row = await tx.get(Message, message_id)
    if row is None:
        raise UnknownMessage(message_id=message_id)
    return row


async def lock(tx: Tx, message_id: UUID) -> Message:
    """As `found`, its row locked until `tx` ends."""
    row = await tx.get(Message, message_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise UnknownMessage(message_id=message_id)
    return row


async def attempts(tx: Tx, message_id: UUID) -> Sequence[Attempt]:
    """In order of their numbers."""
    wanted = select(Attempt).where(Attempt.message_id == message_id).order_by(Attempt.number)
    return (await tx.scalars(wanted)).all()


async def suppressed(tx: Tx, address: str) -> bool:
    return bool(await tx.scalar(select(exists().where(Suppression.address_key == address_key(address)))))


async def opted_out(tx: Tx, address: str) -> bool:
    return bool(await tx.scalar(select(exists().where(OptOut.address_key == address_key(address)))))


async def suppress(tx: Tx, row: Suppression) -> bool:
    """False when the address was suppressed before."""
    fields = {column.key: getattr(row, column.key) for column in Suppression.__table__.columns}
    new = insert(Suppression).values(fields).on_conflict_do_nothing(index_elements=["address_key"])
    return (await tx.execute(new.returning(Suppression.suppression_id))).first() is not None


async def release(tx: Tx, suppression_id: UUID) -> Suppression:
    """Deletes it. Raises UnknownSuppression."""
    gone = delete(Suppression).where(Suppression.suppression_id == suppression_id).returning(Suppression)
    row = (await tx.scalars(gone)).one_or_none()
    if row is None:
        raise UnknownSuppression(suppression_id=suppression_id)
    return row


async def opt_out(tx: Tx, row: OptOut) -> bool:
    """False when the reader opted out before."""
    fields = {column.key: getattr(row, column.key) for column in OptOut.__table__.columns}
    new = insert(OptOut).values(fields).on_conflict_do_nothing(index_elements=["address_key"])
    return (await tx.execute(new.returning(OptOut.opt_out_id))).first() is not None


async def wake(tx: Tx, now: datetime) -> Sequence[tuple[UUID, str]]:
    """Id and user of messages that are due and of which nobody was told lately; notes that they are told."""
    due = (
        select(Message.message_id)
        .where(Message.wake_at <= now)
        .order_by(Message.wake_at)
        .limit(WAKE_MAX)
        .with_for_update(skip_locked=True)
    )
    told = update(Message).where(Message.message_id.in_(due)).values(wake_at=now + WAKE_AGAIN)
    rows = await tx.execute(told.returning(Message.message_id, Message.user_id))
    return [(row.message_id, row.user_id) for row in rows]


async def erase(tx: Tx, now: datetime) -> int:
    """Erases the values of messages that were settled long enough ago. Returns how many."""
    old = select(Message.message_id).where(Message.erase_at <= now).limit(ERASE_MAX)
    gone = update(Message).where(Message.message_id.in_(old)).values(sealed_values=None, erase_at=None)
    return len((await tx.execute(gone.returning(Message.message_id))).all())


async def keep_mail(tx: Tx, row: Mail, mails_max: int) -> None:
    """Puts `row` into the mailbox; the oldest leave when there are more than `mails_max`."""
    tx.add(row)
    await tx.flush()
    oldest = select(Mail.sequence).order_by(Mail.sequence.desc()).offset(mails_max).limit(1)
    await tx.execute(delete(Mail).where(Mail.sequence <= oldest.scalar_subquery()))


def received_by(recipient: str) -> ColumnElement[bool]:
    """Whether it is among a mail's recipients, whatever its case."""
    folded = cast(func.lower(cast(Mail.recipients, Text)), ARRAY(Text))
    return literal(recipient.lower()) == any_(folded)


async def mail_after(tx: Tx, sequence: int, recipient: str, limit: int) -> Sequence[Mail]:
    """Oldest first."""
    wanted = select(Mail).where(Mail.sequence > sequence)
    if recipient:
        wanted = wanted.where(received_by(recipient))
    return (await tx.scalars(wanted.order_by(Mail.sequence).limit(limit))).all()


async def last_mail(tx: Tx) -> int:
    """Sequence of the newest mail; 0 when there is none."""
    return await tx.scalar(select(func.coalesce(func.max(Mail.sequence), 0))) or 0


async def clear_mail(tx: Tx) -> int:
    """Returns how many there were."""
    return len((await tx.execute(delete(Mail).returning(Mail.sequence))).all())


async def mail(tx: Tx, mail_id: UUID) -> Mail | None:
    return (await tx.scalars(select(Mail).where(Mail.mail_id == mail_id))).one_or_none()
