"""A payer without a server around it: a database, a gateway that counts, and lines at which it is killed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.chassis.clock import FakeClock
from services.chassis.db import Database, Tx


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Lines:
    """Counts the lines between which a process can end, and ends it at one of them."""

    killed_at: int = -1  # None of them.
    passed: int = 0

    def cross(self) -> None:
        if self.passed == self.killed_at:
            self.passed += 1
            raise Killed
        self.passed += 1


class MortalDatabase(Database):
    """A database whose user dies before a transaction, before its commit, or right after it."""

    lines: Lines
    gateway: Any  # It outlives whoever asks it.

    @asynccontextmanager
    async def transaction(self, isolation: str | None = None) -> AsyncIterator[Tx]:
        self.lines.cross()
        async with super().transaction(isolation) as tx:
            yield tx
            self.lines.cross()
        self.lines.cross()


class MortalGateway:
    """A gateway whose caller dies before a call, or after it has been done and before it is heard."""

    def __init__(self, gateway: Any, lines: Lines) -> None:
        self._gateway, self._lines = gateway, lines

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._gateway, name)
        if name not in ("open", "authorise", "capture", "void", "refund", "look"):
            return found

        async def call(*args: Any, **rest: Any) -> Any:
            self._lines.cross()
            answer = await found(*args, **rest)
            self._lines.cross()
            return answer

        return call


def mortal(url: str, clock: FakeClock, gateway: Any) -> MortalDatabase:
    db = MortalDatabase(url, clock=clock)
    db.lines, db.gateway = Lines(), gateway
    return db
