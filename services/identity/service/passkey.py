"""weft.identity.v1.PasskeyService."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from services.identity.domain import code as codes, passkey as rules
from services.identity.domain.code import SECOND_STEP, CodeRefused, Made, OneUseCode, Purpose, TicketRefused
from services.identity.domain.passkey import ChallengeRefused, Passkey, PasskeyRefused, PasskeySignInRefused
from services.identity.domain.session import SessionEnded, granted
from services.identity.domain.token import Device, Grant, TokenPair
from services.identity.domain.user import ACTIVE
from services.identity.federation_settings import FederationSettings
from services.identity.service.governing import require_rule_over
from services.identity.service.journal import Entry
from services.identity.service.second_step import SecondSteps
from services.identity.service.shared import Shared, device, own_id
from services.identity.service.sign_in import tokens_to_pb
from services.identity.service.webauthn import (
    Registrant,
    RelyingParty,
    Unverified,
    credential_id,
    transports,
)
from services.identity.store import code as code_store, passkey as store, session as sessions, user as users
from weft.identity.v1 import passkey_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.credential_events_pb2 import (
    PasskeyAdded,
    PasskeyCloneSuspected,
    PasskeyRemoved,
    PasskeyRenamed,
)
from weft.identity.v1.events_pb2 import SteppedUp
from weft.identity.v1.passkey_pb2_grpc import PasskeyServiceServicer


class Passkeys(PasskeyServiceServicer):
    def __init__(self, shared: Shared, steps: SecondSteps, settings: FederationSettings) -> None:
        self._shared, self._steps = shared, steps
        self._party = RelyingParty(settings, shared.tools.settings.edge_url)

    async def StartPasskeyRegistration(
        self, request: pb.StartPasskeyRegistrationRequest, call: Call
    ) -> pb.StartPasskeyRegistrationResponse:
        user_id = own_id(call)
        async with self._shared.db.transaction() as tx:
            person = await users.living(tx, user_id)
            await store.require_room(tx, user_id)
            present = await store.of(tx, user_id)
            made = self._challenge(tx, rules.REGISTRATION, str(user_id))
        who = Registrant(user_id=user_id, email=person.email or "", display_name=person.display_name)
        options = self._party.creation(who, self._bytes(made.row), present)
        return pb.StartPasskeyRegistrationResponse(
            challenge_id=made.token, options=_struct(options), expire_time=_time(made)
        )

    async def CreatePasskey(self, request: pb.CreatePasskeyRequest, call: Call) -> pb.CreatePasskeyResponse:
        user_id, credential = own_id(call), MessageToDict(request.credential)
        challenge = await self._spent(request.challenge_id, rules.REGISTRATION)
        if challenge.subject != str(user_id):
            raise ChallengeRefused
        passkey = self._verified(credential, challenge, request.name)
        async with self._shared.db.transaction() as tx:
            await store.require_room(tx, user_id)
            if await store.by_credential(tx, passkey.credential_id) is not None:
                raise rules.PasskeyExists
            tx.add(passkey)
            await tx.flush()
            event = PasskeyAdded(user_id=str(user_id), passkey_id=str(passkey.passkey_id))
            await self._note(tx, passkey, ActivityKind.ACTIVITY_KIND_PASSKEY_ADDED, event)
        return pb.CreatePasskeyResponse(passkey=to_pb(passkey))

    async def ListPasskeys(self, request: pb.ListPasskeysRequest, call: Call) -> pb.ListPasskeysResponse:
        async with self._shared.db.transaction() as tx:
            found = await store.of(tx, UUID(request.user_id))
        return pb.ListPasskeysResponse(passkeys=map(to_pb, found))

    async def RenamePasskey(self, request: pb.RenamePasskeyRequest, call: Call) -> pb.RenamePasskeyResponse:
        async with self._shared.db.transaction() as tx:
            passkey = await store.own(tx, UUID(request.user_id), UUID(request.passkey_id))
            if passkey.name != request.name:
                passkey.name = request.name
                await emit(tx, PasskeyRenamed(user_id=request.user_id, passkey_id=request.passkey_id))
        return pb.RenamePasskeyResponse(passkey=to_pb(passkey))

    async def DeletePasskey(self, request: pb.DeletePasskeyRequest, call: Call) -> pb.DeletePasskeyResponse:
        async with self._shared.db.transaction() as tx:
            passkey = await store.own(tx, UUID(request.user_id), UUID(request.passkey_id))
            await require_rule_over(tx, call.caller, passkey.user_id)
            await tx.delete(passkey)
            event = PasskeyRemoved(user_id=request.user_id, passkey_id=request.passkey_id)
            await self._note(tx, passkey, ActivityKind.ACTIVITY_KIND_PASSKEY_REMOVED, event)
        return pb.DeletePasskeyResponse()

    async def StartPasskeySignIn(
        self, request: pb.StartPasskeySignInRequest, call: Call
    ) -> pb.StartPasskeySignInResponse:
        async with self._shared.db.transaction() as tx:
            subject = await self._of_ticket(tx, request.ticket) if request.ticket else ""
            allowed = await store.of(tx, UUID(subject)) if subject else []
            made = self._challenge(tx, rules.SIGN_IN, subject)
        options = self._party.request(self._bytes(made.row), allowed)
        return pb.StartPasskeySignInResponse(
            challenge_id=made.token, options=_struct(options), expire_time=_time(made)
        )

    async def CompletePasskeySignIn(
        self, request: pb.CompletePasskeySignInRequest, call: Call
    ) -> pb.CompletePasskeySignInResponse:
        challenge = await self._spent(request.challenge_id, rules.SIGN_IN)
        passkey = await self._asserted(MessageToDict(request.credential), challenge)
        if challenge.subject and (challenge.subject != str(passkey.user_id) or not request.ticket):
            raise PasskeySignInRefused
        if request.ticket:
            pair = await self._second(passkey, request.ticket)
        else:
            pair = await self._alone(passkey, device(call, request.device_name))
        return pb.CompletePasskeySignInResponse(tokens=tokens_to_pb(pair))

    async def StepUpByPasskey(
        self, request: pb.StepUpByPasskeyRequest, call: Call
    ) -> pb.StepUpByPasskeyResponse:
        user_id, now = own_id(call), self._shared.clock.now()
        challenge = await self._spent(request.challenge_id, rules.SIGN_IN)
        passkey = await self._asserted(MessageToDict(request.credential), challenge)
        if passkey.user_id != user_id:
            raise PasskeySignInRefused
        async with self._shared.db.transaction() as tx:
            session = await sessions.lock(tx, UUID(call.caller.session)) if call.caller.session else None
            if session is None or session.subject != str(user_id) or not session.open(now):
                raise SessionEnded
            session.auth_time, session.amr = now, list(rules.AMR)
            event = SteppedUp(user_id=session.subject, session_id=str(session.session_id))
            await self._note(tx, passkey, ActivityKind.ACTIVITY_KIND_STEPPED_UP, event)
            await tx.flush()
            pair = await self._shared.issuer.tokens(tx, granted(session))
        return pb.StepUpByPasskeyResponse(tokens=tokens_to_pb(pair))

    def _challenge(self, tx: Tx, purpose: str, subject: str) -> Made:
        now = self._shared.clock.now()
        ends = now + timedelta(seconds=rules.CHALLENGE_S)
        wanted = Purpose(name=purpose, subject=subject, expires_at=ends)
        made = codes.make(self._shared.sealer, uuid7(now), wanted, now)
        tx.add(made.row)
        return made

    def _bytes(self, code: OneUseCode) -> bytes:
        """What the authenticator signs: derived, so that it need not be stored."""
        return self._shared.sealer.mac("webauthn_challenge", code.code_id.bytes)

    async def _spent(self, token: str, purpose: str) -> OneUseCode:
        """The challenge, which is gone whatever comes of it. Raises ChallengeRefused."""
        async with self._shared.db.transaction() as tx:
            try:
                return await code_store.spend(tx, purpose, token, self._shared.clock.now())
            except CodeRefused:
                raise ChallengeRefused from None

    def _verified(self, credential: dict[str, Any], challenge: OneUseCode, name: str) -> Passkey:
        try:
            made = self._party.registered(credential, self._bytes(challenge))
        except Unverified as error:
            raise PasskeyRefused(field="credential") from error
        if len(made.credential_id) > rules.CREDENTIAL_ID_BYTES_MAX:
            raise PasskeyRefused(field="credential")
        now = self._shared.clock.now()
        return Passkey(
            passkey_id=uuid7(now),
            user_id=UUID(challenge.subject),
            credential_id=made.credential_id,
            public_key=made.credential_public_key,
            sign_count=made.sign_count,
            transports=transports(credential),
            name=name or rules.NAME,
            backed_up=made.credential_backed_up,
            aaguid="" if made.aaguid == rules.NO_MODEL else made.aaguid,
            created_at=now,
            last_used_at=None,
        )

    async def _asserted(self, credential: dict[str, Any], challenge: OneUseCode) -> Passkey:
        """The passkey that answered, its use noted. Raises PasskeySignInRefused."""
        async with self._shared.db.transaction() as tx:
            passkey, counter = await self._answered(tx, credential, challenge)
            cloned = rules.counter_went_back(passkey.sign_count, counter)
            if cloned:
                event = PasskeyCloneSuspected(
                    user_id=str(passkey.user_id), passkey_id=str(passkey.passkey_id)
                )
                await self._note(tx, passkey, ActivityKind.ACTIVITY_KIND_SIGN_IN_FAILED, event)
            else:
                passkey.sign_count, passkey.last_used_at = counter, self._shared.clock.now()
        if cloned:
            raise PasskeySignInRefused
        return passkey

    async def _answered(
        self, tx: Tx, credential: dict[str, Any], challenge: OneUseCode
    ) -> tuple[Passkey, int]:
        try:
            passkey = await store.by_credential(tx, credential_id(credential), lock=True)
            if passkey is None:
                raise PasskeySignInRefused
            return passkey, self._party.asserted(credential, self._bytes(challenge), passkey)
        except Unverified as error:
            raise PasskeySignInRefused from error

    async def _alone(self, passkey: Passkey, here: Device) -> TokenPair:
        """The passkey is the whole proof."""
        grant = Grant(
            subject=str(passkey.user_id),
            auth_time=self._shared.clock.now(),
            amr=rules.AMR,
            device=here,
            lifetime_s=self._shared.settings.session_days * 86_400,
        )
        async with self._shared.db.transaction() as tx:
            if not await users.active(tx, passkey.user_id):
                raise PasskeySignInRefused
            return await self._shared.issuer.tokens(tx, grant)

    async def _second(self, passkey: Passkey, ticket: str) -> TokenPair:
        """The passkey is the second step of the ticket's account."""
        _, person = await self._steps.admit(ticket)
        if person.user_id != passkey.user_id or person.state != ACTIVE:
            raise PasskeySignInRefused
        try:
            async with self._shared.db.transaction() as tx:
                return await self._steps.finish(tx, ticket, person, "hwk")
        except CodeRefused:
            raise TicketRefused from None

    async def _of_ticket(self, tx: Tx, token: str) -> str:
        """Whose second step the ticket is for; no try is counted. Raises TicketRefused."""
        parsed = codes.parsed(token)
        row = await code_store.get(tx, parsed.code_id) if parsed else None
        if (
            row is None
            or parsed is None
            or not codes.good(row, SECOND_STEP, parsed, self._shared.clock.now())
        ):
            raise TicketRefused
        return row.subject

    async def _note(self, tx: Tx, passkey: Passkey, kind: "ActivityKind.ValueType", event: Any) -> None:
        entry = Entry(user_id=passkey.user_id, kind=kind, about=passkey.name)
        await self._shared.journal.write(tx, entry, event)


def _struct(options: dict[str, Any]) -> Struct:
    return ParseDict(options, Struct())


def _time(made: Made) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(made.row.expires_at)
    return time


def to_pb(passkey: Passkey) -> pb.Passkey:
    message = pb.Passkey(
        passkey_id=str(passkey.passkey_id),
        name=passkey.name,
        backed_up=passkey.backed_up,
        aaguid=passkey.aaguid,
    )
    message.create_time.FromDatetime(passkey.created_at)
    if passkey.last_used_at is not None:
        message.last_use_time.FromDatetime(passkey.last_used_at)
    return message
