"""Rows whose ids their callers choose: written by whoever comes first."""

from sqlalchemy.dialects.postgresql import insert

from services.chassis.db import Tx
from services.payment.domain.row import Row


async def written(tx: Tx, row: Row) -> bool:
    """False when its id is taken. `row` itself stays outside of the session: read it again to change it."""
    table = type(row).__table__
    fields = {column.key: getattr(row, column.key) for column in table.columns}
    keys = [column.key for column in table.primary_key]
    new = insert(type(row)).values(fields).on_conflict_do_nothing(index_elements=keys)
    return (await tx.execute(new.returning(*(getattr(type(row), key) for key in keys)))).first() is not None
