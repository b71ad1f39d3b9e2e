"""The mails that identity's own events cause, sent by the notification service.

A message's id is its event's: a retry sends nothing twice. Codes are derived anew for each try, so no
event and no table ever holds one.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from google.protobuf.message import Message

from services.chassis.db import Tx
from services.chassis.events import Envelope
from services.chassis.inbox import Every, Handler
from services.chassis.mesh import Mesh
from services.identity.domain import code as codes, session as session_rules
from services.identity.domain.registration import Registration
from services.identity.domain.sealing import Sealer
from services.identity.domain.user import ERASED, Person
from services.identity.store import code as code_store, user as users
from weft.identity.v1 import events_pb2 as events
from weft.identity.v1.second_factor_pb2 import SecondFactorKind
from weft.notification.v1.notification_pb2 import Channel, Recipient, SendMessageRequest
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub

Values = Mapping[str, str]


class Mails:
    """Handlers of events; each sends at most one mail."""

    def __init__(self, mesh: Mesh, sealer: Sealer, edge_url: str) -> None:
        self._notification = NotificationServiceStub(mesh)
        self._sealer, self._edge = sealer, edge_url.rstrip("/")

    async def confirm_registration(
        self, event: events.RegistrationRequested, envelope: Envelope, tx: Tx
    ) -> None:
        """A code; or, when the address has an account, a notice to its owner, and the rest is forgotten."""
        registration_id = UUID(event.registration_id)
        waiting = await tx.get(Registration, registration_id)
        code = await code_store.get(tx, registration_id)
        if waiting is None or code is None:
            return
        owner = await users.by_key(tx, waiting.email_key)
        if owner is not None:
            await tx.delete(waiting)
            await tx.delete(code)
            await self._tell(owner, envelope, "address_in_use", {"link": f"{self._edge}/sign-in"})
            return
        to = Recipient(address=waiting.email, locale=waiting.locale, time_zone=waiting.zone)
        values = self._code_values(code, "/confirm") | {"display_name": waiting.display_name}
        await self._send(to, envelope, "confirm_email", values)

    async def reset_password(self, event: events.PasswordResetRequested, envelope: Envelope, tx: Tx) -> None:
        code = await code_store.get(tx, UUID(event.password_reset_id))
        person = await users.get(tx, UUID(event.user_id))
        if code is not None and code.used_at is None:
            await self._tell(person, envelope, "reset_password", self._code_values(code, "/reset"))

    async def confirm_email_change(
        self, event: events.EmailChangeRequested, envelope: Envelope, tx: Tx
    ) -> None:
        code = await code_store.get(tx, UUID(event.email_change_id))
        if code is None or code.used_at is not None:
            return
        person = await users.get(tx, UUID(event.user_id))
        to = Recipient(address=code.data["email"], locale=person.locale, time_zone=person.zone)
        values = self._code_values(code, "/confirm-email") | {"display_name": person.display_name}
        await self._send(to, envelope, "confirm_email", values)

    async def email_changed(self, event: events.EmailChanged, envelope: Envelope, tx: Tx) -> None:
        """To the old address: its owner may not have wanted it."""
        code = await code_store.get(tx, UUID(event.email_change_id))
        person = await users.get(tx, UUID(event.user_id))
        if code is None or "old" not in code.data:
            return
        to = Recipient(address=code.data["old"], locale=person.locale, time_zone=person.zone)
        values = {"at": _moment(envelope.at), "new_address": code.data["email"]}
        await self._send(to, envelope, "email_changed", values | {"display_name": person.display_name})

    async def password_changed(self, event: events.PasswordChanged, envelope: Envelope, tx: Tx) -> None:
        await self._tell_of(event, envelope, tx, "password_changed", {"at": _moment(envelope.at)})

    async def new_device(self, event: events.SignedIn, envelope: Envelope, tx: Tx) -> None:
        session = await tx.get(session_rules.Session, UUID(event.session_id)) if event.new_device else None
        if session is not None:
            values = {"device": session.device_name or "unknown", "at": _moment(session.created_at)}
            if session.address:
                values["address"] = session.address
            await self._tell_of(event, envelope, tx, "new_device", values)

    async def account_locked(self, event: events.AccountLocked, envelope: Envelope, tx: Tx) -> None:
        values = {"link": f"{self._edge}/reset"}
        if event.HasField("until_time"):
            values["until"] = event.until_time.ToJsonString()
        await self._tell_of(event, envelope, tx, "account_locked", values)

    async def second_factor_added(self, event: events.SecondFactorAdded, envelope: Envelope, tx: Tx) -> None:
        await self._factor_changed(event, envelope, tx, "totp_enabled")

    async def second_factor_removed(
        self, event: events.SecondFactorRemoved, envelope: Envelope, tx: Tx
    ) -> None:
        passkey = event.kind == SecondFactorKind.SECOND_FACTOR_KIND_PASSKEY
        await self._factor_changed(event, envelope, tx, "passkey_removed" if passkey else "totp_disabled")

    async def recovery_codes_replaced(
        self, event: events.RecoveryCodesReplaced, envelope: Envelope, tx: Tx
    ) -> None:
        await self._factor_changed(event, envelope, tx, "recovery_codes_renewed")

    async def recovery_code_used(self, event: events.RecoveryCodeUsed, envelope: Envelope, tx: Tx) -> None:
        await self._factor_changed(event, envelope, tx, "recovery_code_used")

    def handlers(self) -> dict[type[Message] | Every, Handler]:
        return {
            events.RegistrationRequested: self.confirm_registration,
            events.PasswordResetRequested: self.reset_password,
            events.EmailChangeRequested: self.confirm_email_change,
            events.EmailChanged: self.email_changed,
            events.PasswordChanged: self.password_changed,
            events.SignedIn: self.new_device,
            events.AccountLocked: self.account_locked,
            events.SecondFactorAdded: self.second_factor_added,
            events.SecondFactorRemoved: self.second_factor_removed,
            events.RecoveryCodesReplaced: self.recovery_codes_replaced,
            events.RecoveryCodeUsed: self.recovery_code_used,
        }

    async def _factor_changed(self, event: Message, envelope: Envelope, tx: Tx, change: str) -> None:
        values = {"at": _moment(envelope.at), "change": change}
        await self._tell_of(event, envelope, tx, "second_factor_changed", values)

    async def _tell_of(
        self, event: Message, envelope: Envelope, tx: Tx, template: str, values: Values
    ) -> None:
        person = await users.get(tx, UUID(envelope.subject))
        await self._tell(person, envelope, template, values)

    async def _tell(self, person: Person, envelope: Envelope, template: str, values: Values) -> None:
        """An erased account has nobody to tell."""
        if person.state == ERASED or person.email is None:
            return
        to = Recipient(
            user_id=str(person.user_id), address=person.email, locale=person.locale, time_zone=person.zone
        )
        await self._send(to, envelope, template, {**values, "display_name": person.display_name})

    async def _send(self, to: Recipient, envelope: Envelope, template: str, values: Values) -> None:
        await self._notification.SendMessage(
            SendMessageRequest(
                message_id=str(envelope.id),
                template=template,
                channel=Channel.CHANNEL_EMAIL,
                recipient=to,
                values=values,
            )
        )

    def _code_values(self, code: codes.OneUseCode, page: str) -> dict[str, str]:
        """A link to a page that posts the code: to open it uses nothing up, so link scanners do no harm."""
        link = f"{self._edge}{page}?token={codes.token_of(self._sealer, code)}"
        return {"link": link, "expires_at": _moment(code.expires_at)}


def _moment(at: datetime) -> str:
    """RFC 3339."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
