"""Fresh databases, copied from a migrated template: 20 ms instead of running all migrations."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from services.chassis.migrate import migrate

ROOT = Path(__file__).parent.parent
CHASSIS = ROOT / "services" / "chassis" / "migrations"
LOCK = 0x74656D70  # Workers make a template one at a time.


def at(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def template(postgres: str, *folders: Path) -> str:
    """Name of a database that has these folders' migrations; made when there is none."""
    files = [file for folder in folders for file in sorted(folder.glob("*.sql"))]
    digest = hashlib.sha256(b"\0".join([str(f).encode() + b"\0" + f.read_bytes() for f in files]))
    name = f"template_{digest.hexdigest()[:16]}"
    admin = await asyncpg.connect(postgres)
    try:
        await admin.execute("select pg_advisory_lock($1)", LOCK)
        if not await admin.fetchval("select 1 from pg_database where datname = $1", name):
            await admin.execute(f"create database {name}_new")
            connection = await asyncpg.connect(at(postgres, f"{name}_new"))
            await migrate(connection, *folders)
            await connection.close()
            await admin.execute(f"alter database {name}_new rename to {name}")
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def fresh(postgres: str, *folders: Path) -> AsyncIterator[str]:
    """URL of a new database with these folders' migrations; dropped at the end of the block."""
    model, name = await template(postgres, *folders), f"t_{uuid4().hex}"
    admin = await asyncpg.connect(postgres)
    try:
        await admin.execute(f"create database {name} template {model} strategy file_copy")
        yield at(postgres, name)
        await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()
