"""What people were told."""

from collections.abc import Mapping
from datetime import datetime

from services.chassis.db import Database
from services.health.domain.alert import Heard
from services.health.domain.plan import Mode

HEARD = "select capability, mode, at from alert"
TOLD = """
insert into alert (capability, mode, at)
select capability, mode, $3::timestamptz from unnest($1::text[], $2::text[]) as told (capability, mode)
on conflict (capability) do update set mode = excluded.mode, at = excluded.at
"""


async def heard(db: Database) -> dict[str, Heard]:
    return {row["capability"]: Heard(Mode(row["mode"]), row["at"]) for row in await db.fetch(HEARD)}


async def told(db: Database, modes: Mapping[str, Mode], at: datetime) -> None:
    await db.execute(TOLD, list(modes), [mode.value for mode in modes.values()], at)
