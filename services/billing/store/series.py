"""Numbers without gaps."""

from datetime import datetime

from services.chassis.db import AnyTx, execute, fetch

BEGIN = """
insert into invoice_series (series, last_number, last_at) values ($1, 0, $2) on conflict do nothing
"""
TAKE = """
update invoice_series set last_number = last_number + $2, last_at = greatest(last_at, $3)
where series = $1 returning last_number - $2 as before, last_at
"""


async def take(tx: AnyTx, series: str, count: int, now: datetime) -> tuple[int, datetime]:
    """The first of `count` numbers, and their time, which no earlier number's is later than.

    Holds the series until `tx` ends, so it is the last thing that a transaction waits for; who takes of
    several series takes them in order of their names. A rollback gives the numbers back.
    """
    rows = await fetch(tx, TAKE, series, count, now)
    if not rows:
        await execute(tx, BEGIN, series, now)
        rows = await fetch(tx, TAKE, series, count, now)
    return rows[0]["before"] + 1, rows[0]["last_at"]
