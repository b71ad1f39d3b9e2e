"""The migrations make exactly the columns that the mapped classes expect, in every service."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase

from tests import databases

ROOT = Path(__file__).parent.parent
SERVICES = sorted(
    path.parent.name for path in ROOT.glob("services/*/migrations") if path.parent.name != "chassis"
)
DIALECT = postgresql.dialect()
SPELLINGS = {"varchar": "text", "float": "double precision"}
COLUMNS = """
select relname, attname, format_type(atttypid, atttypmod) as kind, attnotnull,
    exists (
        select from pg_index where indrelid = pg_class.oid and indisprimary and attnum = any(indkey)
    ) as is_key
from pg_class join pg_attribute on attrelid = pg_class.oid
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and attnum > 0 and not attisdropped
"""
Tables = dict[str, dict[str, tuple[str, bool, bool]]]  # Type, nullability and part in the primary key.


def mapped(service: str) -> MetaData:
    """What the service's domain maps; one Row for each service, so one MetaData."""
    folder = ROOT / "services" / service
    for path in sorted([*folder.glob("domain.py"), *folder.glob("domain/*.py")]):
        import_module(
            path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        )
    of_it = f"services.{service}."
    rows = [base for base in DeclarativeBase.__subclasses__() if base.__module__.startswith(of_it)]
    assert len(rows) <= 1, f"{service} has more than one Row: {rows}"
    return rows[0].metadata if rows else MetaData()


def spelled(kind: Any) -> str:
    """A type as PostgreSQL's format_type would spell it."""
    text = str(kind.compile(dialect=DIALECT)).lower()
    for ours, theirs in SPELLINGS.items():
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return text


async def migrated(url: str) -> Tables:
    """The shape of every table of a database."""
    connection = await asyncpg.connect(url)
    tables: Tables = {}
    for row in await connection.fetch(COLUMNS):
        shape = (row["kind"], not row["attnotnull"], row["is_key"])
        tables.setdefault(row["relname"], {})[row["attname"]] = shape
    await connection.close()
    return tables


def expected(metadata: MetaData) -> Tables:
    return {
        table.name: {c.name: (spelled(c.type), bool(c.nullable), bool(c.primary_key)) for c in table.columns}
        for table in metadata.sorted_tables
    }


@pytest.mark.parametrize("service", SERVICES)
async def test_migrated_columns_are_the_mapped_ones(service: str, postgres: str) -> None:
    wanted = expected(mapped(service))
    own = ROOT / "services" / service / "migrations"
    async with databases.fresh(postgres, databases.CHASSIS, own) as url:
        tables = await migrated(url)
    assert {name: tables.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("service", SERVICES)
async def test_a_table_that_nobody_maps_is_named_in_the_services_sql(service: str, postgres: str) -> None:
    own = ROOT / "services" / service / "migrations"
    async with databases.fresh(postgres, databases.CHASSIS) as url:
        of_the_chassis = set(await migrated(url))
    async with databases.fresh(postgres, databases.CHASSIS, own) as url:
        unmapped = set(await migrated(url)) - of_the_chassis - set(expected(mapped(service)))
    code = "\n".join(path.read_text() for path in sorted((ROOT / "services" / service).rglob("*.py")))
    assert {table for table in unmapped if f" {table}" not in code} == set()
