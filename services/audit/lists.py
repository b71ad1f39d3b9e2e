"""What may be listed, by which fields, in which order."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select, true

from services.audit.domain import Anchor, Entry
from services.chassis.db import Tx
from services.chassis.filtering import Field, condition
from services.chassis.listing import Listing, Page

FIELDS = {
    "sequence": Field(Entry.sequence),
    "service": Field(Entry.service, order=False),
    "type": Field(Entry.type, order=False),
    "key": Field(Entry.key, order=False),
    "actor": Field(Entry.actor, order=False),
    "acting": Field(Entry.acting, order=False),
    "trace": Field(Entry.trace, order=False),
    "event_time": Field(Entry.event_time, order=False),
}
ENTRIES = Listing(FIELDS, "sequence desc", "sequence")
ANCHORS = Listing({"sequence": Field(Anchor.sequence)}, "sequence desc", "sequence")


def wanted(text: str, subject_id: str) -> ColumnElement[bool]:
    """Entries of a filter and a person; empty: all. Raises BadFilter."""
    return condition(text, FIELDS) & about(subject_id)


def about(subject_id: str) -> ColumnElement[bool]:
    return Entry.subject_id == subject_id if subject_id else true()


async def entries(tx: Tx, page: Page, subject_id: str) -> tuple[Sequence[Entry], str]:
    """Rows, and the next page's token."""
    rows = (await tx.scalars(page.select(select(Entry).where(about(subject_id))))).all()
    return page.cut(rows)


async def anchors(tx: Tx, page: Page) -> tuple[Sequence[Anchor], str]:
    return page.cut((await tx.scalars(page.select(select(Anchor)))).all())
