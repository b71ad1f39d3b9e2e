"""weft.identity.v1.SecondFactorService."""

from uuid import UUID

from services.chassis.db import Tx
from services.chassis.method import Call
from services.identity.domain import second_factor as rules
from services.identity.domain.password import PasswordTooShortAlone
from services.identity.domain.second_factor import (
    NoSecondFactor,
    SecondStepRefused,
    TotpEnrolled,
    TotpNotEnrolled,
    TotpNotPending,
)
from services.identity.domain.user import Person
from services.identity.service.governing import require_rule_over
from services.identity.service.journal import Entry
from services.identity.service.proving import Prover
from services.identity.service.second_step import SecondSteps
from services.identity.service.shared import Shared, own_id
from services.identity.store import attempts, credential as credentials, passkey as passkeys, user as users
from weft.identity.v1 import second_factor_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import (
    RecoveryCodesReplaced,
    RevocationCause,
    SecondFactorAdded,
    SecondFactorRemoved,
)
from weft.identity.v1.second_factor_pb2_grpc import SecondFactorServiceServicer

TOTP = pb.SecondFactorKind.SECOND_FACTOR_KIND_TOTP


class SecondFactors(SecondFactorServiceServicer):
    def __init__(self, shared: Shared, prover: Prover, steps: SecondSteps) -> None:
        self._shared, self._prover, self._steps = shared, prover, steps

    async def EnrollTotp(self, request: pb.EnrollTotpRequest, call: Call) -> pb.EnrollTotpResponse:
        secret = rules.new_secret()
        async with self._shared.db.transaction() as tx:
            person = await users.living(tx, own_id(call), lock=True)
            held = await credentials.totp(tx, person.user_id)
            if held is not None and held.confirmed_at is not None:
                raise TotpEnrolled
            new = rules.pending(person.user_id, secret, self._shared.sealer, self._shared.clock.now())
            await tx.merge(new)
        uri = rules.uri(secret, person.email or "", self._shared.settings.totp_issuer)
        return pb.EnrollTotpResponse(secret=secret, uri=uri, qr_svg=rules.qr_svg(uri))

    async def ConfirmTotp(self, request: pb.ConfirmTotpRequest, call: Call) -> pb.ConfirmTotpResponse:
        person = await self._admitted(call)
        async with self._shared.db.transaction() as tx:
            await users.living(tx, person.user_id, lock=True)
            await self._confirm(tx, person, request.totp_code)
            codes = await self._first_codes(tx, person)
            await self._settle(tx, person)
            entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_SECOND_FACTOR_ADDED)
            event = SecondFactorAdded(user_id=str(person.user_id), kind=TOTP)
            await self._shared.journal.write(tx, entry, event)
        return pb.ConfirmTotpResponse(recovery_codes=codes)

    async def RemoveTotp(self, request: pb.RemoveTotpRequest, call: Call) -> pb.RemoveTotpResponse:
        person = await self._admitted(call)
        async with self._shared.db.transaction() as tx:
            await users.living(tx, person.user_id, lock=True)
            held = await credentials.totp(tx, person.user_id)
            if held is None or held.confirmed_at is None:
                raise TotpNotEnrolled
            await self._steps.use_totp(tx, person, request.totp_code)
            await self._require_long_password(tx, person)
            await credentials.forget_second_factors(tx, person.user_id)
            await self._settle(tx, person)
            await self._removed(tx, person.user_id)
        return pb.RemoveTotpResponse()

    async def ReplaceRecoveryCodes(
        self, request: pb.ReplaceRecoveryCodesRequest, call: Call
    ) -> pb.ReplaceRecoveryCodesResponse:
        async with self._shared.db.transaction() as tx:
            person = await users.living(tx, own_id(call), lock=True)
            if not await credentials.has_second_factor(tx, person.user_id):
                raise NoSecondFactor
            codes = await self._new_codes(tx, person)
            entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_RECOVERY_CODES_REPLACED)
            await self._shared.journal.write(tx, entry, RecoveryCodesReplaced(user_id=str(person.user_id)))
        return pb.ReplaceRecoveryCodesResponse(recovery_codes=codes)

    async def ListSecondFactors(
        self, request: pb.ListSecondFactorsRequest, call: Call
    ) -> pb.ListSecondFactorsResponse:
        response = pb.ListSecondFactorsResponse()
        async with self._shared.db.transaction() as tx:
            totp = await credentials.totp(tx, own_id(call))
            response.recovery_codes_left = await credentials.recovery_codes_left(tx, own_id(call))
        if totp is not None and totp.confirmed_at is not None:
            factor = response.second_factors.add(kind=TOTP)
            factor.create_time.FromDatetime(totp.confirmed_at)
            if totp.last_used_at is not None:
                factor.last_use_time.FromDatetime(totp.last_used_at)
        return response

    async def ResetSecondFactors(
        self, request: pb.ResetSecondFactorsRequest, call: Call
    ) -> pb.ResetSecondFactorsResponse:
        user_id = UUID(request.user_id)
        async with self._shared.db.transaction() as tx:
            await users.living(tx, user_id, lock=True)
            await require_rule_over(tx, call.caller, user_id)
            lost = await self._forget_all(tx, user_id)
            for kind in lost:
                await self._removed(tx, user_id, kind)
            if lost:
                cause = RevocationCause.REVOCATION_CAUSE_SECOND_FACTOR_RESET
                await self._shared.issuer.end_all(tx, request.user_id, cause)
        return pb.ResetSecondFactorsResponse()

    async def _admitted(self, call: Call) -> Person:
        """Counts a guess at the caller's second factor. Raises SecondStepRefused while it rests."""
        now = self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            person = await users.living(tx, own_id(call))
            key = self._prover.second_key(person)
            if not await attempts.take(tx, key, self._prover.policy, now):
                raise SecondStepRefused
        return person

    async def _settle(self, tx: Tx, person: Person) -> None:
        await attempts.forget(tx, self._prover.second_key(person))

    async def _confirm(self, tx: Tx, person: Person, code: str) -> None:
        """The first code counts as used, so that it cannot sign anyone in."""
        now, held = self._shared.clock.now(), await credentials.totp(tx, person.user_id)
        if held is None or held.confirmed_at is not None:
            raise TotpNotPending
        step = rules.matching_step(rules.secret_of(held, self._shared.sealer), code, now)
        if step is None:
            raise SecondStepRefused
        held.confirmed_at, held.last_step = now, step

    async def _first_codes(self, tx: Tx, person: Person) -> list[str]:
        if await credentials.recovery_codes_left(tx, person.user_id):
            return []
        return await self._new_codes(tx, person)

    async def _new_codes(self, tx: Tx, person: Person) -> list[str]:
        codes = rules.new_recovery_codes()
        hashes = [rules.recovery_hash(self._shared.sealer, person.user_id, code) for code in codes]
        await credentials.replace_recovery_codes(tx, person.user_id, hashes)
        return codes

    async def _require_long_password(self, tx: Tx, person: Person) -> None:
        password = await credentials.password(tx, person.user_id)
        if password is not None and password.short:
            raise PasswordTooShortAlone

    async def _forget_all(self, tx: Tx, user_id: UUID) -> list["pb.SecondFactorKind.ValueType"]:
        """The kinds that the account had. A passkey opens the account alone, so it goes too."""
        had = {
            TOTP: await credentials.has_second_factor(tx, user_id),
            pb.SecondFactorKind.SECOND_FACTOR_KIND_PASSKEY: await passkeys.has_any(tx, user_id),
        }
        await credentials.forget_second_factors(tx, user_id)
        await passkeys.forget(tx, user_id)
        return [kind for kind, held in had.items() if held]

    async def _removed(self, tx: Tx, user_id: UUID, kind: "pb.SecondFactorKind.ValueType" = TOTP) -> None:
        entry = Entry(user_id=user_id, kind=ActivityKind.ACTIVITY_KIND_SECOND_FACTOR_REMOVED)
        await self._shared.journal.write(tx, entry, SecondFactorRemoved(user_id=str(user_id), kind=kind))
