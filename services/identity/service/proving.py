"""Proof by password: counted, locked out, answered alike for known and unknown accounts."""

from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.db import Tx
from services.chassis.method import Call
from services.identity.domain import lockout
from services.identity.domain.lockout import Policy, TooManyAttempts, Window
from services.identity.domain.password import Password, SignInRefused, TooBusy
from services.identity.domain.user import ACTIVE, Person
from services.identity.service.hashing import Verdict
from services.identity.service.journal import Entry
from services.identity.service.shared import Shared, own_id
from services.identity.store import attempts, credential as credentials, user as users
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import AccountLocked, SignInFailed

ADDRESS_WINDOW_S = 600


@dataclass(frozen=True, slots=True)
class Proof:
    """A person's right password. `settle` it in the transaction that acts on it."""

    person: Person
    password: Password = field(repr=False)
    upgrade: str = field(repr=False)
    account: bytes = field(repr=False)


class Prover:
    """Checks passwords against accounts."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        settings = shared.settings
        self.policy = Policy(
            after=settings.lockout_after,
            rest_s_min=settings.lockout_s_min,
            rest_s_max=settings.lockout_s_max,
            failures_max=settings.failures_max,
        )
        self._window = Window(count=settings.address_failures_max, seconds=ADDRESS_WINDOW_S)

    async def prove(self, email_key: str, password: str, address: str) -> Proof:
        """Raises SignInRefused, whatever was wrong; TooManyAttempts by address alone; TooBusy."""
        now = self._shared.clock.now()
        account, source = self.account_key(email_key), self._key("address", address)
        async with self._shared.db.transaction() as tx:
            if await attempts.full(tx, source, self._window, now):
                raise TooManyAttempts
            count = await attempts.take(tx, account, self.policy, now)
            person, stored = await users.with_password(tx, email_key)
        verdict = await self._check(stored, password, account if count else b"")
        if person and stored and count and verdict.right and person.state == ACTIVE:
            return Proof(person, stored, verdict.upgrade, account)
        async with self._shared.db.transaction() as tx:
            await attempts.within(tx, source, self._window, now)
        if person and count:
            self._note(person, count, now, address)
        raise SignInRefused

    async def prove_caller(self, password: str, call: Call) -> Proof:
        """The person who calls, once more. Raises as `prove`, and PersonsOnly."""
        async with self._shared.db.transaction() as tx:
            person = await users.get(tx, own_id(call))
        if person.email_key is None:
            raise SignInRefused
        return await self.prove(person.email_key, password, call.peer())

    async def settle(self, tx: Tx, proof: Proof) -> None:
        """Forgets the failures before, and replaces an outdated hash."""
        await attempts.forget(tx, proof.account)
        if proof.upgrade:
            await credentials.upgrade_hash(tx, proof.person.user_id, proof.password.hash, proof.upgrade)

    def account_key(self, email_key: str) -> bytes:
        return self._key("account", email_key)

    def second_key(self, person: Person) -> bytes:
        """Counts wrong second steps: whoever gets that far has the password."""
        return self._key("second_step", str(person.user_id))

    def _key(self, kind: str, name: str) -> bytes:
        return lockout.key(self._shared.sealer, kind, name)

    async def _check(self, stored: Password | None, password: str, account: bytes) -> Verdict:
        """An attempt that was not looked at, for want of room, does not count."""
        try:
            return await self._shared.hasher.check(stored.hash if stored else None, password)
        except TooBusy:
            async with self._shared.db.transaction() as tx:
                await attempts.give_back(tx, account)
            raise

    def _note(self, person: Person, count: int, now: datetime, address: str) -> None:
        user_id, kind = person.user_id, ActivityKind.ACTIVITY_KIND_SIGN_IN_FAILED
        event = SignInFailed(user_id=str(user_id), failures=count)
        self._shared.aftermath.note(Entry(user_id=user_id, kind=kind, address=address), event)
        if count in (self.policy.after, self.policy.failures_max):
            locked = AccountLocked(user_id=str(user_id))
            until = self.policy.locked_until(count, now)
            if until and until != lockout.FOREVER:
                locked.until_time.FromDatetime(until)
            kind = ActivityKind.ACTIVITY_KIND_LOCKED
            self._shared.aftermath.note(Entry(user_id=user_id, kind=kind, address=address), locked)
