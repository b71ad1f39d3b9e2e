"""Accounts as callers see them, read outside any transaction; parallel reads are one query."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from services.chassis.db import Database
from services.chassis.loader import Loader
from services.identity.domain.user import UserNotFound

READ = """
select p.user_id, p.email, p.display_name, p.locale, p.zone, p.state, p.revision, p.created_at, p.updated_at,
    array(select g.role from role_grant g where g.user_id = p.user_id order by g.role) as roles,
    exists(select from totp t where t.user_id = p.user_id and t.confirmed_at is not null) as second_factor
from person p where p.user_id = any($1::uuid[])
"""


class Directory:
    """Reads what is committed; rows have the columns of READ."""

    def __init__(self, db: Database) -> None:
        self._db, self._rows = db, Loader(db, READ, "user_id")

    async def one(self, user_id: UUID) -> Any:
        """Raises UserNotFound."""
        row = await self._rows.load(user_id)
        if row is None:
            raise UserNotFound(user_id=user_id)
        return row

    async def many(self, user_ids: Sequence[UUID]) -> dict[UUID, Any]:
        """Those that are there, by id."""
        return {row["user_id"]: row for row in await self._db.fetch(READ, list(user_ids))}
