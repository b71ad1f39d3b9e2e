"""weft.identity.v1.PasswordService: passwords set anew, by a mailed code or by the old one."""

from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.chassis.events import Envelope, emit
from services.chassis.method import Call
from services.identity.domain import code as codes, password as rules
from services.identity.domain.code import RESET, CodeRefused, Purpose
from services.identity.domain.password import Password
from services.identity.domain.user import ACTIVE, Person, sign_in_key
from services.identity.service.journal import Entry
from services.identity.service.proving import Proof, Prover
from services.identity.service.registration import admit_mail
from services.identity.service.shared import Shared
from services.identity.store import attempts, code as code_store, credential as credentials, user as users
from weft.identity.v1 import password_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import (
    PasswordChanged,
    PasswordResetAsked,
    PasswordResetRequested,
    RevocationCause,
)
from weft.identity.v1.password_pb2_grpc import PasswordServiceServicer


class Passwords(PasswordServiceServicer):
    """Sets passwords; every other session ends with the old one."""

    def __init__(self, shared: Shared, prover: Prover) -> None:
        self._shared, self._prover = shared, prover

    async def RequestPasswordReset(
        self, request: pb.RequestPasswordResetRequest, call: Call
    ) -> pb.RequestPasswordResetResponse:
        response = pb.RequestPasswordResetResponse()
        response.expire_time.FromDatetime(await self._ask(request.email))
        return response

    async def ResetPassword(self, request: pb.ResetPasswordRequest, call: Call) -> pb.ResetPasswordResponse:
        return pb.ResetPasswordResponse(user_id=str(await self._reset(request.token, request.new_password)))

    async def ChangePassword(
        self, request: pb.ChangePasswordRequest, call: Call
    ) -> pb.ChangePasswordResponse:
        proof = await self._prover.prove_caller(request.password, call)
        await self._change(proof, request.new_password, call.caller.session)
        return pb.ChangePasswordResponse()

    async def resolve(self, event: PasswordResetAsked, envelope: Envelope, tx: Tx) -> None:
        """Finds the account that a reset was asked for; without one the code is forgotten."""
        code = await code_store.get(tx, UUID(event.password_reset_id))
        if code is None:
            return
        person = await users.by_key(tx, code.data.get("email_key", ""))
        if person is None or person.state != ACTIVE:
            await tx.delete(code)
            return
        code.subject, code.data = str(person.user_id), {}
        asked = PasswordResetRequested(user_id=code.subject, password_reset_id=event.password_reset_id)
        entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_PASSWORD_RESET_REQUESTED)
        await self._shared.journal.write(tx, entry, asked)

    async def _ask(self, email: str) -> datetime:
        """Until when a code is good, if there is an account. Raises TooManyAttempts."""
        now, key = self._shared.clock.now(), sign_in_key(email)
        ends = now + timedelta(minutes=self._shared.settings.reset_minutes)
        purpose = Purpose(name=RESET, subject="", expires_at=ends, data={"email_key": key})
        made = codes.make(self._shared.sealer, uuid7(now), purpose, now)
        async with self._shared.db.transaction() as tx:
            await admit_mail(tx, self._shared, key, now)
            tx.add(made.row)
            await emit(tx, PasswordResetAsked(password_reset_id=str(made.row.code_id)))
        return ends

    async def _reset(self, token: str, new: str) -> UUID:
        """Raises CodeRefused, PasswordRefused, TooBusy; a refused password leaves the code good."""
        person, short = await self._checked(token, new)
        hash_ = await self._shared.hasher.hash(new)
        now = self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            code = await code_store.spend(tx, RESET, token, now)
            await code_store.void(tx, code.subject, RESET)
            await attempts.forget(tx, self._prover.account_key(person.email_key or ""))
            await self._put(tx, Password(user_id=person.user_id, hash=hash_, short=short, changed_at=now))
        return person.user_id

    async def _change(self, proof: Proof, new: str, session_id: str) -> None:
        """Keeps the session of the call. Raises PasswordRefused, TooBusy."""
        async with self._shared.db.transaction() as tx:
            short = await self._check(tx, proof.person, new)
        hash_ = await self._shared.hasher.hash(new)
        now, user_id = self._shared.clock.now(), proof.person.user_id
        async with self._shared.db.transaction() as tx:
            await self._prover.settle(tx, proof)
            row = Password(user_id=user_id, hash=hash_, short=short, changed_at=now)
            await self._put(tx, row, keep=session_id)

    async def _check(self, tx: Tx, person: Person, new: str) -> bool:
        """Whether the password is good beside a second factor only. Raises PasswordRefused."""
        settings = self._shared.settings
        second = await credentials.has_second_factor(tx, person.user_id)
        least = settings.password_chars_min_mfa if second else settings.password_chars_min
        rules.check(
            new, least, self._shared.lists.common_passwords, (person.email or "", person.display_name)
        )
        return len(rules.normalized(new)) < settings.password_chars_min

    async def _checked(self, token: str, new: str) -> tuple[Person, bool]:
        """Looks at everything that may be refused before the costly hash; the code is spent after it."""
        now, parsed = self._shared.clock.now(), codes.parsed(token)
        async with self._shared.db.transaction() as tx:
            code = await code_store.get(tx, parsed.code_id) if parsed else None
            if parsed is None or code is None or not codes.good(code, RESET, parsed, now) or not code.subject:
                raise CodeRefused
            person = await users.living(tx, UUID(code.subject))
            if person.state != ACTIVE:
                raise CodeRefused
            return person, await self._check(tx, person, new)

    async def _put(self, tx: Tx, new: Password, keep: str | None = None) -> None:
        """`keep` None: by a reset, which ends every session."""
        await credentials.put_password(tx, new)
        event = PasswordChanged(user_id=str(new.user_id), reset=keep is None)
        entry = Entry(user_id=new.user_id, kind=ActivityKind.ACTIVITY_KIND_PASSWORD_CHANGED)
        await self._shared.journal.write(tx, entry, event)
        cause = RevocationCause.REVOCATION_CAUSE_PASSWORD_CHANGED
        await self._shared.issuer.end_all(tx, str(new.user_id), cause, keep or "")
