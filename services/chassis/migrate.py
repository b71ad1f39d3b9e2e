"""Applies numbered .sql files forward only: each once, whole or not at all, one process at a time."""

import hashlib
from pathlib import Path
from typing import Any

LOCK = 0x77656674  # "weft": the advisory lock that processes starting together wait for.
TABLE = """
create table if not exists migration (
    name text primary key,
    sha256 text not null,
    at timestamptz not null default now()
)
"""


class MigrationChanged(Exception):
    """A file that was applied already reads differently now; migrations only add."""


async def migrate(connection: Any, *folders: Path) -> list[str]:
    """Applies, folder by folder, the files not yet applied. Returns their names."""
    await connection.execute("select pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(TABLE)
        applied = dict(await connection.fetch("select name, sha256 from migration"))
        files = [file for folder in folders for file in sorted(folder.glob("*.sql"))]
        texts = [(f"{file.parent.parent.name}/{file.name}", file.read_text()) for file in files]
        return [name for name, text in texts if await _apply(connection, name, text, applied)]
    finally:
        await connection.execute("select pg_advisory_unlock($1)", LOCK)


async def _apply(connection: Any, name: str, text: str, applied: dict[str, str]) -> bool:
    """Whether it was new. Raises MigrationChanged."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    if name in applied:
        if applied[name] != digest:
            raise MigrationChanged(name)
        return False
    async with connection.transaction():
        await connection.execute(text)
        await connection.execute("insert into migration (name, sha256) values ($1, $2)", name, digest)
    return True
