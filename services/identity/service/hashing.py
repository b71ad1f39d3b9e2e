"""Argon2id in a few threads, so that the loop never waits for it and memory stays bounded.

Every check costs one Argon2 computation, whether the account exists, has a password, or has a hash of
another system: its time tells none of that.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import argon2

from services.identity.domain import foreign_hash
from services.identity.domain.password import TooBusy, normalized
from services.identity.settings import IdentitySettings

T = TypeVar("T")
WAITING_MAX = 64  # At 50 ms each and two at once: a wait of under 2 s; beyond, callers do better to retry.
NOBODYS = "a password that no account has"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right, and the hash to keep in place of an outdated one."""

    right: bool
    upgrade: str = field(default="", repr=False)


class Hasher:
    """Hashes and checks passwords."""

    def __init__(self, settings: IdentitySettings) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=settings.argon2_passes, memory_cost=settings.argon2_memory_kib, parallelism=1
        )
        self._threads = ThreadPoolExecutor(settings.argon2_concurrency, thread_name_prefix="argon2")
        self._nobodys = self._argon2.hash(NOBODYS)
        self._waiting = 0
        self.computations = 0  # Argon2 runs so far; tests compare answers by it, not by time.

    async def hash(self, password: str) -> str:
        """Raises TooBusy."""
        return await self._away(lambda: self._hash(normalized(password)))

    async def check(self, stored: str | None, password: str) -> Verdict:
        """`stored` None: nobody's, and so never right. Raises TooBusy."""
        return await self._away(lambda: self._check(stored, password))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _away(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise TooBusy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _hash(self, text: str) -> str:
        self.computations += 1
        return self._argon2.hash(text)

    def _check(self, stored: str | None, password: str) -> Verdict:
        text = normalized(password)
        if stored is None or stored.startswith("$argon2id$"):
            return self._check_own(stored or self._nobodys, text, known=stored is not None)
        if foreign_hash.verifies(stored, text) or (
            text != password and foreign_hash.verifies(stored, password)
        ):
            return Verdict(True, self._hash(text))
        self._verify(self._nobodys, text)
        return Verdict(False)

    def _check_own(self, stored: str, text: str, known: bool) -> Verdict:
        if not self._verify(stored, text) or not known:
            return Verdict(False)
        return Verdict(True, self._hash(text) if self._argon2.check_needs_rehash(stored) else "")

    def _verify(self, stored: str, text: str) -> bool:
        self.computations += 1
        try:
            return self._argon2.verify(stored, text)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
