"""PostgreSQL: a connection of its own each time, a trivial question, and how far replicas are behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.health.domain.component import Verdict
from services.health.looking import Finding

LAG_S_MAX = 10.0  # A replica that is further behind would lose as much at a failover.
# What a role without pg_monitor may not see of replicas is null, and so nothing is said of it.
ASK = """
select pg_is_in_recovery() as recovering,
    (select max(extract(epoch from replay_lag))::float8 from pg_stat_replication) as lag_s
"""


class Postgres:
    component = "postgres"

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect

    async def look(self) -> Sequence[Finding]:
        connection = await self._connect()
        try:
            row = await connection.fetchrow(ASK)
        finally:
            connection.terminate()  # No farewell: it could take as long as the question.
        return [found(row["recovering"], row["lag_s"])]


def found(recovering: bool, lag_s: float | None) -> Finding:
    if recovering:
        return Finding(Postgres.component, Verdict.SLOW, "it takes no writes: it is in recovery")
    if lag_s is not None and lag_s > LAG_S_MAX:
        return Finding(Postgres.component, Verdict.SLOW, f"a replica is {lag_s:.0f} s behind")
    return Finding(Postgres.component)
