"""The account PostgreSQL runs as (it refuses root), and whether that account can reach a folder."""

import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.problem import Problem

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """A user and its primary group."""

    uid: int
    gid: int
    name: str

    @property
    def is_us(self) -> bool:
        return self.uid == os.geteuid()


def for_postgres(environ: Mapping[str, str] = os.environ) -> Account:
    """This account, unless it is root: then WEFT_POSTGRES_USER, `postgres` or `nobody`. Raises Problem."""
    if os.geteuid():
        return Account(os.geteuid(), os.getegid(), str(os.geteuid()))
    asked = environ.get("WEFT_POSTGRES_USER")
    for name in (asked,) if asked else CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid:
            return Account(entry.pw_uid, entry.pw_gid, name)
    raise Problem(
        f"PostgreSQL refuses to run as root, and there is no account {asked or ' or '.join(CANDIDATES)}",
        "name an account with WEFT_POSTGRES_USER, or run as an ordinary user",
    )


def reaches(account: Account, path: Path) -> bool:
    """Whether `account` may pass every folder down to `path`."""
    path = path.resolve()
    return account.uid == 0 or all(_passes(account, folder.stat()) for folder in (path, *path.parents))


def _passes(account: Account, found: os.stat_result) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
