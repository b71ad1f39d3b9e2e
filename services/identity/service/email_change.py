"""weft.identity.v1.EmailService: accounts moved to another address by a code that is mailed there."""

from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.chassis.method import Call
from services.identity.domain import code as codes, user as rules
from services.identity.domain.code import EMAIL_CHANGE, RESET, CodeRefused, Purpose
from services.identity.domain.user import ACTIVE
from services.identity.service.journal import Entry
from services.identity.service.registration import admit_mail
from services.identity.service.shared import Shared, own_id
from services.identity.store import code as code_store, user as users
from weft.identity.v1 import email_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.email_pb2_grpc import EmailServiceServicer
from weft.identity.v1.events_pb2 import EmailChanged, EmailChangeRequested


class EmailChanges(EmailServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ChangeEmail(self, request: pb.ChangeEmailRequest, call: Call) -> pb.ChangeEmailResponse:
        response = pb.ChangeEmailResponse()
        response.expire_time.FromDatetime(await self._ask(own_id(call), request.email))
        return response

    async def ConfirmEmailChange(
        self, request: pb.ConfirmEmailChangeRequest, call: Call
    ) -> pb.ConfirmEmailChangeResponse:
        return pb.ConfirmEmailChangeResponse(user_id=str(await self._confirm(request.token)))

    async def _ask(self, user_id: UUID, text: str) -> datetime:
        """Until when the code is good. Whether the new address is taken shows when it is confirmed.

        Raises EmailRefused, UserNotFound, TooManyAttempts.
        """
        shared, now = self._shared, self._shared.clock.now()
        email = rules.checked_email(text, shared.lists.disposable_domains)
        ends = now + timedelta(hours=shared.settings.code_hours)
        purpose = Purpose(name=EMAIL_CHANGE, subject=str(user_id), expires_at=ends, data={"email": email})
        made = codes.make(shared.sealer, uuid7(now), purpose, now)
        async with shared.db.transaction() as tx:
            await users.living(tx, user_id)
            await admit_mail(tx, shared, rules.email_key(email), now)
            await code_store.void(tx, str(user_id), EMAIL_CHANGE)
            tx.add(made.row)
            event = EmailChangeRequested(user_id=str(user_id), email_change_id=str(made.row.code_id))
            await self._note(tx, user_id, ActivityKind.ACTIVITY_KIND_EMAIL_CHANGE_REQUESTED, event)
        return ends

    async def _confirm(self, token: str) -> UUID:
        """Codes that went to the old address are void. Raises CodeRefused, also for an address now taken."""
        shared, now = self._shared, self._shared.clock.now()
        async with shared.db.transaction() as tx:
            code = await code_store.spend(tx, EMAIL_CHANGE, token, now)
            person = await users.get(tx, UUID(code.subject), lock=True)
            email = code.data["email"]
            free = await users.claim_email(tx, email) or rules.email_key(email) == person.email_key
            if person.state != ACTIVE or not free:
                raise CodeRefused
            code.data = {"email": email, "old": person.email}
            person.email, person.email_key = email, rules.email_key(email)
            person.changed(now)
            await code_store.void(tx, code.subject, RESET)
            event = EmailChanged(user_id=code.subject, email_change_id=str(code.code_id))
            await self._note(tx, person.user_id, ActivityKind.ACTIVITY_KIND_EMAIL_CHANGED, event)
        return person.user_id

    async def _note(
        self,
        tx: Tx,
        user_id: UUID,
        kind: "ActivityKind.ValueType",
        event: EmailChangeRequested | EmailChanged,
    ) -> None:
        await self._shared.journal.write(tx, Entry(user_id=user_id, kind=kind), event)
