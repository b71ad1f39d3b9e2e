"""Accounts asked for and opened: the answer and its work are the same for known addresses."""

from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.chassis.events import emit
from services.identity.domain import code as codes, lockout, password as passwords, user as rules
from services.identity.domain.code import REGISTRATION, CodeRefused, Purpose
from services.identity.domain.lockout import TooManyAttempts, Window
from services.identity.domain.password import Password
from services.identity.domain.registration import Registration
from services.identity.domain.user import Person
from services.identity.service.journal import Entry
from services.identity.service.shared import Shared
from services.identity.store import attempts, code as code_store, credential as credentials, user as users
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import RegistrationRequested, UserCreated, UserOrigin
from weft.identity.v1.sign_in_pb2 import RegisterRequest
from weft.identity.v1.user_pb2 import Profile

MAIL_WINDOW_S = 3600


def profile_of(message: Profile) -> dict[str, str]:
    """The contract's profile as the rules take it. Raises ProfileRefused."""
    profile = {"display_name": message.display_name, "locale": message.locale, "zone": message.zone}
    rules.check_profile(profile, list(profile))
    return profile


class Registrations:
    """Asks for accounts, and opens them by mailed codes."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ask(self, request: RegisterRequest) -> datetime:
        """Until when the code is good. Raises EmailRefused, ProfileRefused, PasswordRefused,
        TooManyAttempts, TooBusy."""
        shared, now = self._shared, self._shared.clock.now()
        email = rules.checked_email(request.email, shared.lists.disposable_domains)
        profile = profile_of(request.profile)
        own = (email, profile["display_name"])
        least = shared.settings.password_chars_min
        passwords.check(request.password, least, shared.lists.common_passwords, own)
        hash_ = await shared.hasher.hash(request.password)
        ends = now + timedelta(hours=shared.settings.code_hours)
        waiting = Registration(
            registration_id=uuid7(now),
            email=email,
            email_key=rules.email_key(email),
            display_name=profile["display_name"],
            locale=profile["locale"] or rules.LOCALE,
            zone=profile["zone"] or rules.ZONE,
            password_hash=hash_,
            expires_at=ends,
        )
        async with shared.db.transaction() as tx:
            await admit_mail(tx, shared, waiting.email_key, now)
            await self._write(tx, waiting, now)
        return ends

    async def _write(self, tx: Tx, waiting: Registration, now: datetime) -> None:
        name = str(waiting.registration_id)
        purpose = Purpose(name=REGISTRATION, subject=name, expires_at=waiting.expires_at)
        made = codes.make(self._shared.sealer, waiting.registration_id, purpose, now)
        tx.add_all([waiting, made.row])
        await emit(tx, RegistrationRequested(registration_id=name))

    async def confirm(self, token: str) -> UUID:
        """Opens the account. Raises CodeRefused, also when the address was taken meanwhile."""
        now = self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            code = await code_store.spend(tx, REGISTRATION, token, now)
            waiting = await tx.get(Registration, UUID(code.subject))
            if waiting is None or not await users.claim_email(tx, waiting.email):
                raise CodeRefused
            profile = {"display_name": waiting.display_name, "locale": waiting.locale, "zone": waiting.zone}
            person = rules.created(waiting.registration_id, waiting.email, profile, now)
            origin = UserOrigin.USER_ORIGIN_REGISTRATION
            await open_account(tx, self._shared, person, origin, waiting.password_hash)
            await code_store.forget_registrations(tx, waiting.email_key)
        return person.user_id


async def open_account(
    tx: Tx, shared: Shared, person: Person, origin: "UserOrigin.ValueType", password_hash: str = ""
) -> None:
    """Writes the account and its event. The address was claimed. For all ways an account comes to be."""
    tx.add(person)
    await tx.flush()
    if password_hash:
        row = Password(user_id=person.user_id, hash=password_hash, short=False, changed_at=shared.clock.now())
        await credentials.put_password(tx, row)
    entry = Entry(user_id=person.user_id, kind=ActivityKind.ACTIVITY_KIND_REGISTERED)
    await shared.journal.write(tx, entry, UserCreated(user_id=str(person.user_id), origin=origin))


async def admit_mail(tx: Tx, shared: Shared, email_key: str, now: datetime) -> None:
    """Keeps one address from being flooded, whether it has an account. Raises TooManyAttempts."""
    window = Window(count=shared.settings.mail_hourly_max, seconds=MAIL_WINDOW_S)
    if not await attempts.within(tx, lockout.key(shared.sealer, "mail", email_key), window, now):
        raise TooManyAttempts
