"""Sessions and refresh tokens: opened, used once, ended."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import case, delete, exists, select, update

from services.chassis.db import Database, Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.identity.domain.session import (
    SESSIONS_MAX,
    RefreshToken,
    Session,
    SessionNotFound,
    Standing,
)
from services.identity.domain.token import narrowed


async def lock(tx: Tx, session_id: UUID) -> Session | None:
    return await tx.get(Session, session_id, with_for_update=True)


async def own(tx: Tx, subject: str, session_id: UUID) -> Session:
    """The subject's session, locked. Raises SessionNotFound for somebody else's too."""
    session = await lock(tx, session_id)
    if session is None or session.subject != subject:
        raise SessionNotFound(session_id=session_id)
    return session


async def all_open(tx: Tx, subject: str, now: datetime) -> Sequence[Session]:
    """Locked, oldest first."""
    query = select(Session).where(
        Session.subject == subject, Session.ended_at.is_(None), Session.expires_at > now
    )
    return (await tx.scalars(query.order_by(Session.session_id).with_for_update())).all()


LISTING = Listing({"session_id": Field(Session.session_id)}, order="session_id desc", unique="session_id")


async def page(tx: Tx, subject: str, now: datetime, page: Page) -> Sequence[Session]:
    """Open ones, newest first; one more than the page has, when there are more."""
    still = select(Session).where(
        Session.subject == subject, Session.ended_at.is_(None), Session.expires_at > now
    )
    return (await tx.scalars(page.select(still))).all()


async def surplus(tx: Tx, subject: str, now: datetime) -> Sequence[Session]:
    """Those beyond SESSIONS_MAX less one, so that another may open; oldest first."""
    found = await all_open(tx, subject, now)
    return found[: max(0, len(found) - SESSIONS_MAX + 1)]


async def knows_device(tx: Tx, subject: str, device_hash: bytes) -> bool:
    """Whether the subject was signed in from such a device, or never at all."""
    ever = select(exists().where(Session.subject == subject))
    if not await tx.scalar(ever):
        return True
    query = select(exists().where(Session.subject == subject, Session.device_hash == device_hash))
    return bool(await tx.scalar(query))


async def use_refresh_token(tx: Tx, hash_: bytes, now: datetime) -> UUID | None:
    """Spends the token: one of any number of parallel calls gets its session."""
    fresh = (RefreshToken.hash == hash_, RefreshToken.used_at.is_(None), RefreshToken.expires_at > now)
    spend = update(RefreshToken).where(*fresh).values(used_at=now).returning(RefreshToken.session_id)
    session_id: UUID | None = await tx.scalar(spend.execution_options(synchronize_session=False))
    return session_id


async def session_of(tx: Tx, hash_: bytes) -> tuple[UUID, str] | None:
    """The session that a refresh token belongs to, spent or not, and the user whose it is, if any."""
    person = case((Session.kind == "user", Session.subject), else_="")
    query = select(Session.session_id, person).join(
        RefreshToken, RefreshToken.session_id == Session.session_id
    )
    row = (await tx.execute(query.where(RefreshToken.hash == hash_))).one_or_none()
    return (row[0], row[1]) if row else None


async def spent(tx: Tx, hash_: bytes) -> bool:
    return await tx.scalar(select(RefreshToken.used_at).where(RefreshToken.hash == hash_)) is not None


async def forget(tx: Tx, subject: str) -> None:
    """Drops every session of a subject, with its tokens."""
    ids = select(Session.session_id).where(Session.subject == subject)
    await tx.execute(delete(RefreshToken).where(RefreshToken.session_id.in_(ids)))
    await tx.execute(delete(Session).where(Session.subject == subject))


async def forget_older(tx: Tx, than: datetime) -> None:
    """Drops what ended long ago."""
    await tx.execute(delete(RefreshToken).where(RefreshToken.expires_at < than))
    still = exists().where(RefreshToken.session_id == Session.session_id)
    await tx.execute(delete(Session).where(Session.expires_at < than, ~still))


CHECK = """
select s.subject, s.acting, s.scope, array(
    select distinct unnest(r.permissions) from role r
    where p.user_id is not null
        and (r.role = 'user' or r.role in (select g.role from role_grant g where g.user_id = p.user_id))
) as permissions
from session s left join person p on p.user_id = case when s.kind = 'user' then s.subject::uuid end
where s.session_id = $1 and s.ended_at is null and s.expires_at > $2
    and (s.kind <> 'user' or p.state = 'active')
"""


async def check(db: Database, session_id: UUID, now: datetime) -> Standing | None:
    """What the session allows now, read afresh: never from a cache. None: it is not open."""
    row = await db.fetchrow(CHECK, session_id, now)
    if row is None:
        return None
    scope = None if row["scope"] is None else frozenset(row["scope"])
    held = frozenset(row["permissions"])
    return Standing(subject=row["subject"], acting=row["acting"], permissions=narrowed(held, scope))
