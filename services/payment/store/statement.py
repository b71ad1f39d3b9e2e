"""Statements of our bank account, and their entries."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select, update

from services.chassis.db import Tx, insert_many
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.chassis.money import Money
from services.payment.domain.intent import BY_BANK, Intent, Operation, State
from services.payment.domain.method import Method
from services.payment.domain.statement import BankEntry, EntryState, Problem, Statement, UnknownBankEntry

NEW_MAX = 200  # Entries that are matched in one round.
OPEN = (State.REQUIRES_ACTION, State.AUTHORISED)
PROBLEMS = {each.value: each.value for each in Problem}

STATEMENTS = Listing(
    {"import_time": Field(Statement.imported_at), "statement_id": Field(Statement.statement_id)},
    "import_time desc",
    "statement_id",
)
ENTRIES = Listing(
    {
        "value_time": Field(BankEntry.value_at),
        "entry_id": Field(BankEntry.entry_id, order=False),
        "statement_id": Field(BankEntry.statement_id, order=False),
        "intent_id": Field(BankEntry.intent_id, nullable=True, order=False),
        "state": Field(BankEntry.state, order=False, values={each.value: each.value for each in EntryState}),
        "problem": Field(BankEntry.problem, order=False),
        "currency": Field(BankEntry.currency, order=False),
        "amount_minor": Field(BankEntry.amount, order=False),
    },
    "value_time desc",
    "entry_id",
)
COLUMNS = (
    ("entry_id", "uuid"),
    ("statement_id", "uuid"),
    ("account", "text"),
    ("service_ref", "text"),
    ("currency", "text"),
    ("amount", "bigint"),
    ("reversal", "boolean"),
    ("value_at", "timestamptz"),
    ("state", "text"),
    ("problem", "text"),
    ("sealed_text", "bytea"),
)


async def add_entries(tx: Tx, entries: Sequence[BankEntry]) -> None:
    rows = [[getattr(each, name) for name, _ in COLUMNS] for each in entries]
    await insert_many(tx, "bank_entry", COLUMNS, rows)


async def new(tx: Tx, statement_id: UUID | None = None) -> Sequence[UUID]:
    """Entries that were not matched yet."""
    wanted = select(BankEntry.entry_id).where(BankEntry.state == EntryState.NEW)
    if statement_id:
        wanted = wanted.where(BankEntry.statement_id == statement_id)
    return (await tx.scalars(wanted.limit(NEW_MAX))).all()


async def entry(tx: Tx, entry_id: UUID) -> BankEntry:
    """Locked. Raises UnknownBankEntry."""
    row = await tx.get(BankEntry, entry_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise UnknownBankEntry(entry_id=entry_id)
    return row


async def repeated(tx: Tx, row: BankEntry) -> bool:
    """Whether the bank has told of the same movement in another statement."""
    wanted = select(BankEntry.entry_id).where(
        BankEntry.account == row.account,
        BankEntry.service_ref == row.service_ref,
        BankEntry.service_ref != "",
        BankEntry.statement_id != row.statement_id,
        BankEntry.amount == row.amount,
        BankEntry.value_at == row.value_at,
        BankEntry.state != EntryState.NEW,
    )
    return (await tx.scalars(wanted.limit(1))).first() is not None


async def by_references(tx: Tx, gateway: str, references: Collection[str]) -> Sequence[Intent]:
    wanted = select(Intent).where(Intent.gateway == gateway, Intent.gateway_ref.in_(references))
    return (await tx.scalars(wanted.order_by(Intent.intent_id).with_for_update())).all()


async def by_account(tx: Tx, account_mac: bytes, amount: Money) -> Sequence[Intent]:
    """Payments that wait for exactly this amount from the holder of an account; two at most."""
    holders = select(Method.customer_id).where(Method.account_mac == account_mac)
    wanted = select(Intent).where(
        Intent.customer_id.in_(holders),
        Intent.kind.in_(BY_BANK),
        Intent.state.in_(OPEN),
        Intent.currency == amount.currency,
        Intent.amount - Intent.captured == amount.minor,
    )
    return (await tx.scalars(wanted.order_by(Intent.intent_id).limit(2).with_for_update())).all()


async def refunds(tx: Tx, refund_ids: Collection[UUID]) -> Sequence[Operation]:
    wanted = select(Operation).where(Operation.kind == "REFUND", Operation.operation_id.in_(refund_ids))
    return (await tx.scalars(wanted.order_by(Operation.operation_id))).all()


async def unmatched(tx: Tx, statement_ids: Collection[UUID]) -> Mapping[UUID, int]:
    """How many, by statement."""
    wanted = (
        select(BankEntry.statement_id, func.count())
        .where(BankEntry.statement_id.in_(statement_ids), BankEntry.state == EntryState.UNMATCHED)
        .group_by(BankEntry.statement_id)
    )
    return {statement_id: count for statement_id, count in await tx.execute(wanted)}


async def page(tx: Tx, page: Page) -> tuple[Sequence[Statement], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Statement)))).all())


async def entry_page(tx: Tx, page: Page) -> tuple[Sequence[BankEntry], str]:
    return page.cut((await tx.scalars(page.select(select(BankEntry)))).all())


async def erase(tx: Tx, customer_id: UUID) -> None:
    """What a customer's transfers said of them."""
    theirs = update(BankEntry).where(BankEntry.customer_id == customer_id)
    await tx.execute(theirs.values(sealed_text=None))
