"""The first administrator, from settings, while there is none."""

from services.chassis.caller import Caller
from services.chassis.clock import uuid7
from services.chassis.config import BadSetting
from services.chassis.db import Tx
from services.identity.domain import password as passwords, user as rules
from services.identity.domain.password import PasswordRefused
from services.identity.domain.role import ADMIN
from services.identity.domain.user import EmailRefused
from services.identity.service.registration import open_account
from services.identity.service.roles import grant_role
from services.identity.service.shared import Shared
from services.identity.settings import PREFIX
from services.identity.store import role as roles, user as users
from weft.identity.v1.events_pb2 import UserOrigin

OPERATOR = Caller(subject="operator", kind="service", scope=frozenset({"*"}))


async def bootstrap(shared: Shared) -> None:
    """Repeatable, by any number of processes. Raises BadSetting."""
    settings = shared.settings
    if not settings.bootstrap_email:
        return
    async with shared.db.transaction() as tx:
        if await roles.someone_has(tx, ADMIN):
            return
    try:
        email = rules.checked_email(settings.bootstrap_email)
        least, common = settings.password_chars_min, shared.lists.common_passwords
        passwords.check(settings.bootstrap_password, least, common, (email,))
    except (EmailRefused, PasswordRefused) as refusal:
        raise BadSetting(f"{PREFIX}BOOTSTRAP_EMAIL and ..._PASSWORD: {refusal}") from None
    hash_ = await shared.hasher.hash(settings.bootstrap_password)
    async with shared.db.transaction() as tx:
        await roles.get(tx, ADMIN, lock=True)
        if not await roles.someone_has(tx, ADMIN):
            await _make(tx, shared, email, hash_)


async def _make(tx: Tx, shared: Shared, email: str, hash_: str) -> None:
    """An account that has the address already becomes the administrator as it is."""
    now = shared.clock.now()
    person = await users.by_key(tx, rules.email_key(email))
    if person is None:
        profile = {"display_name": "Administrator", "locale": "", "zone": ""}
        person = rules.created(uuid7(now), email, profile, now)
        await open_account(tx, shared, person, UserOrigin.USER_ORIGIN_BOOTSTRAP, hash_)
    await grant_role(tx, shared, OPERATOR, person.user_id, ADMIN)
