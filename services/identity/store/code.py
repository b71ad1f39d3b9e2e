"""One-use codes: spent by one statement, so that of any number of parallel uses one succeeds."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, update

from services.chassis.db import Tx
from services.identity.domain import code as rules
from services.identity.domain.code import CodeRefused, OneUseCode, TicketRefused
from services.identity.domain.registration import Registration


async def spend(tx: Tx, purpose: str, token: str, now: datetime) -> OneUseCode:
    """Raises CodeRefused, without saying why: unknown, spent and too old are one answer."""
    parsed = rules.parsed(token)
    if parsed is None:
        raise CodeRefused
    fresh = (
        OneUseCode.code_id == parsed.code_id,
        OneUseCode.purpose == purpose,
        OneUseCode.hash == parsed.hash,
        OneUseCode.used_at.is_(None),
        OneUseCode.expires_at > now,
    )
    statement = update(OneUseCode).where(*fresh).values(used_at=now).returning(OneUseCode)
    spent = (await tx.scalars(statement.execution_options(synchronize_session=False))).one_or_none()
    if spent is None:
        raise CodeRefused
    return spent


async def try_ticket(tx: Tx, purpose: str, token: str, now: datetime) -> OneUseCode:
    """Counts a try; the ticket stays good until it is spent. Raises TicketRefused."""
    parsed = rules.parsed(token)
    if parsed is None:
        raise TicketRefused
    fresh = (
        OneUseCode.code_id == parsed.code_id,
        OneUseCode.purpose == purpose,
        OneUseCode.hash == parsed.hash,
        OneUseCode.used_at.is_(None),
        OneUseCode.expires_at > now,
        OneUseCode.tries < rules.TICKET_TRIES_MAX,
    )
    statement = update(OneUseCode).where(*fresh).values(tries=OneUseCode.tries + 1).returning(OneUseCode)
    ticket = (await tx.scalars(statement.execution_options(synchronize_session=False))).one_or_none()
    if ticket is None:
        raise TicketRefused
    return ticket


async def get(tx: Tx, code_id: UUID) -> OneUseCode | None:
    return await tx.get(OneUseCode, code_id)


async def void(tx: Tx, subject: str, purpose: str | None = None) -> None:
    """Forgets the subject's codes, of one purpose or all."""
    statement = delete(OneUseCode).where(OneUseCode.subject == subject)
    if purpose is not None:
        statement = statement.where(OneUseCode.purpose == purpose)
    await tx.execute(statement)


async def forget_older(tx: Tx, than: datetime) -> None:
    await tx.execute(delete(OneUseCode).where(OneUseCode.expires_at < than))
    await tx.execute(delete(Registration).where(Registration.expires_at < than))


async def forget_registrations(tx: Tx, email_key: str) -> None:
    await tx.execute(delete(Registration).where(Registration.email_key == email_key))
