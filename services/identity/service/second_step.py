"""The second step of a sign-in: tickets, and the codes of apps and recovery sheets."""

from datetime import timedelta
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.identity.domain import code as codes, second_factor as rules
from services.identity.domain.code import SECOND_STEP, TICKET_S, OneUseCode, Purpose
from services.identity.domain.second_factor import SecondStepRefused
from services.identity.domain.token import Device, Grant, TokenPair
from services.identity.domain.user import ACTIVE, Person
from services.identity.service.journal import Entry
from services.identity.service.proving import Prover
from services.identity.service.shared import Shared
from services.identity.store import (
    attempts,
    code as code_store,
    credential as credentials,
    passkey as passkeys,
    user as users,
)
from weft.identity.v1 import sign_in_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import RecoveryCodeUsed, SignInFailed

KINDS = pb.SecondStepKind


class SecondSteps:
    """Begins and finishes them. Passkeys finish by the same ticket."""

    def __init__(self, shared: Shared, prover: Prover) -> None:
        self._shared, self._prover = shared, prover

    async def begin(self, tx: Tx, person: Person, device: Device) -> pb.SecondStep:
        """A ticket in place of tokens."""
        now = self._shared.clock.now()
        purpose = Purpose(
            name=SECOND_STEP,
            subject=str(person.user_id),
            expires_at=now + timedelta(seconds=TICKET_S),
            data={"name": device.name, "user_agent": device.user_agent, "address": device.address},
        )
        made = codes.make(self._shared.sealer, uuid7(now), purpose, now)
        tx.add(made.row)
        step = pb.SecondStep(ticket=made.token, kinds=await self._kinds(tx, person))
        step.expire_time.FromDatetime(made.row.expires_at)
        return step

    async def admit(self, token: str) -> tuple[OneUseCode, Person]:
        """Counts a try of the ticket and of the account. Raises TicketRefused, SecondStepRefused."""
        now = self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            ticket = await code_store.try_ticket(tx, SECOND_STEP, token, now)
            person = await users.get(tx, _user_id(ticket))
            looked_at = await attempts.take(tx, self._prover.second_key(person), self._prover.policy, now)
        if not looked_at or person.state != ACTIVE:
            raise SecondStepRefused
        return ticket, person

    async def finish(self, tx: Tx, token: str, person: Person, proven: str) -> TokenPair:
        """Spends the ticket, after the second factor was proven in `tx`. `proven` is its `amr` value.

        Raises CodeRefused when the ticket was spent meanwhile.
        """
        now = self._shared.clock.now()
        ticket = await code_store.spend(tx, SECOND_STEP, token, now)
        await attempts.forget(tx, self._prover.second_key(person))
        grant = Grant(
            subject=str(person.user_id),
            auth_time=now,
            amr=("pwd", proven, "mfa"),
            device=Device(**ticket.data),
            lifetime_s=self._shared.settings.session_days * 86_400,
        )
        return await self._shared.issuer.tokens(tx, grant)

    async def use_totp(self, tx: Tx, person: Person, code: str) -> None:
        """Takes a code of the account's app, once. Raises SecondStepRefused."""
        now, totp = self._shared.clock.now(), await credentials.totp(tx, person.user_id)
        if totp is None or totp.confirmed_at is None:
            raise SecondStepRefused
        step = rules.matching_step(rules.secret_of(totp, self._shared.sealer), code, now)
        if step is None or not await credentials.use_step(tx, person.user_id, step, now):
            raise SecondStepRefused

    async def use_recovery_code(self, tx: Tx, person: Person, code: str) -> None:
        """Spends a recovery code. Emits RecoveryCodeUsed. Raises SecondStepRefused."""
        hash_ = rules.recovery_hash(self._shared.sealer, person.user_id, code)
        if not await credentials.use_recovery_code(tx, hash_, self._shared.clock.now()):
            raise SecondStepRefused
        left = await credentials.recovery_codes_left(tx, person.user_id)
        entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_RECOVERY_CODE_USED)
        await self._shared.journal.write(tx, entry, RecoveryCodeUsed(user_id=str(person.user_id), left=left))

    def note_failure(self, person: Person, address: str) -> None:
        entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_SIGN_IN_FAILED, address=address)
        self._shared.aftermath.note(entry, SignInFailed(user_id=str(person.user_id)))

    async def _kinds(self, tx: Tx, person: Person) -> list["pb.SecondStepKind.ValueType"]:
        kinds = []
        totp = await credentials.totp(tx, person.user_id)
        if totp is not None and totp.confirmed_at is not None:
            kinds.append(KINDS.SECOND_STEP_KIND_TOTP)
        if await credentials.recovery_codes_left(tx, person.user_id):
            kinds.append(KINDS.SECOND_STEP_KIND_RECOVERY_CODE)
        if await passkeys.has_any(tx, person.user_id):
            kinds.append(KINDS.SECOND_STEP_KIND_PASSKEY)
        return kinds


def _user_id(ticket: OneUseCode) -> UUID:
    return UUID(ticket.subject)
