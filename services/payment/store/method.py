"""By what customers pay."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update

from services.chassis.db import Tx, execute
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.payment.domain.intent import Kind
from services.payment.domain.method import InvoiceNotGranted, Method, UnknownMethod

TURN = "select pg_advisory_xact_lock(hashtextextended('method of ' || $1, 0))"
METHODS = Listing(
    {"create_time": Field(Method.created_at), "method_id": Field(Method.method_id)},
    "create_time desc",
    "method_id",
)


async def get(tx: Tx, method_id: UUID, *, lock: bool = False) -> Method:
    """Raises UnknownMethod."""
    row = await tx.get(Method, method_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise UnknownMethod(method_id=method_id)
    return row


async def of_customer(tx: Tx, method_id: UUID, customer_id: UUID | None, *, lock: bool = False) -> Method:
    """As `get`; somebody else's is as unknown as one that is none. Without a customer: anybody's."""
    row = await get(tx, method_id, lock=lock)
    if customer_id not in (None, row.customer_id):
        raise UnknownMethod(method_id=method_id)
    return row


async def invoice(tx: Tx, customer_id: UUID, currency: str) -> Method:
    """By what a customer pays on invoice, locked. Raises InvoiceNotGranted."""
    wanted = select(Method).where(
        Method.customer_id == customer_id,
        Method.kind == Kind.INVOICE,
        Method.currency == currency,
        Method.detached_at.is_(None),
    )
    row = (await tx.scalars(wanted.order_by(Method.created_at.desc()).limit(1).with_for_update())).first()
    if row is None:
        raise InvoiceNotGranted(currency=currency)
    return row


async def attached(tx: Tx, customer_id: UUID) -> int:
    """How many a customer has; whoever attaches one waits for its turn."""
    await execute(
        tx, "select pg_advisory_xact_lock(hashtextextended('method of ' || $1, 0))", str(customer_id)
    )
    wanted = select(func.count()).where(Method.customer_id == customer_id, Method.detached_at.is_(None))
    return int(await tx.scalar(wanted) or 0)


async def prefer(tx: Tx, row: Method) -> None:
    """It is the one that is taken when none is named."""
    others = update(Method).where(Method.customer_id == row.customer_id, Method.preferred)
    await tx.execute(others.values(preferred=False))
    await tx.execute(update(Method).where(Method.method_id == row.method_id).values(preferred=True))
    await tx.refresh(row)


async def every(tx: Tx, customer_id: UUID) -> Sequence[Method]:
    """All that are attached, locked."""
    wanted = select(Method).where(Method.customer_id == customer_id, Method.detached_at.is_(None))
    return (await tx.scalars(wanted.order_by(Method.method_id).with_for_update())).all()


async def page(tx: Tx, page: Page, customer_id: UUID, *, detached: bool) -> tuple[Sequence[Method], str]:
    """Rows, and the next page's token."""
    wanted = select(Method).where(Method.customer_id == customer_id)
    if not detached:
        wanted = wanted.where(Method.detached_at.is_(None))
    return page.cut((await tx.scalars(page.select(wanted))).all())
