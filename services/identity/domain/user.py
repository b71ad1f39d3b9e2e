"""Accounts: the row, and the rules of names, addresses and preferences."""

import unicodedata
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from email_validator import EmailNotValidError, ValidatedEmail, validate_email
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from services.identity.domain.row import Row

NAME_CHARS_MAX = 200  # The longest real names on record have about 160 characters.
NAME_BYTES_MAX = 800  # Four bytes a character; keeps stacks of combining marks from growing.
EMAIL_BYTES_MAX = 254  # RFC 5321 §4.5.3.1.3 with erratum 1690: a path less its brackets.
PREFERENCES_MAX = 100
LOCALE, ZONE = "en", "UTC"
DEFAULTS = {"display_name": "", "locale": LOCALE, "zone": ZONE}
ACTIVE, DISABLED, ERASED = "active", "disabled", "erased"
OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # UTR 36: they disguise text.


class UserNotFound(NotFound):
    """There is no account {user_id}."""


class UserNotActive(FailedPrecondition):
    """The account {user_id} may not sign in."""


class PersonsOnly(PermissionDenied):
    """Only a person who is signed in may make this call."""


class EmailTaken(AlreadyExists):
    """The address has an account already."""


class EmailRefused(InvalidArgument):
    """The address breaks the rule {rule}."""


class ProfileRefused(InvalidArgument):
    """The profile's {field} breaks the rule {rule}."""


class TooManyPreferences(FailedPrecondition):
    """An account has at most {max} preferences."""


class Person(Row):
    """An account. Erased: all that is personal is empty."""

    __tablename__ = "person"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    email_key: Mapped[str | None]  # What makes two addresses the same.
    display_name: Mapped[str]
    locale: Mapped[str]
    zone: Mapped[str]
    preferences: Mapped[dict[str, Any]]
    state: Mapped[str]
    revision: Mapped[int]
    activity_sequence: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def etag(self) -> str:
        return etag(self.revision)

    def changed(self, now: datetime) -> None:
        self.revision += 1
        self.updated_at = now

    def erase(self, now: datetime) -> None:
        """Leaves the id, so that nobody ever gets it again."""
        self.email = self.email_key = None
        self.display_name, self.locale, self.zone, self.preferences = "", LOCALE, ZONE, {}
        self.state = ERASED
        self.changed(now)


def etag(revision: int) -> str:
    """Changes whenever the account does."""
    return f"{revision:x}"


def created(user_id: UUID, email: str, profile: Mapping[str, str], now: datetime) -> Person:
    """A new account. The address and profile have passed their rules."""
    return Person(
        user_id=user_id,
        email=email,
        email_key=email_key(email),
        display_name=profile["display_name"],
        locale=profile["locale"] or LOCALE,
        zone=profile["zone"] or ZONE,
        preferences={},
        state=ACTIVE,
        revision=1,
        activity_sequence=0,
        created_at=now,
        updated_at=now,
    )


def checked_email(text: str, disposable: Set[str] = frozenset()) -> str:
    """The address as it is kept: NFC, its domain in lower case. Raises EmailRefused.

    Accepted is what mail in practice accepts: RFC 5321 mailboxes with a dot-atom local part, RFC 6531
    letters, a registered-looking domain. Quoted local parts, comments, folding and address literals
    are refused, though RFC 5322 has them: no account of a person needs one, and parsers disagree.
    """
    parts = _validated(text)
    if any(suffix in disposable for suffix in _suffixes(parts.ascii_domain)):
        raise EmailRefused(field="email", rule="disposable_domain")
    return parts.normalized


def _validated(text: str) -> ValidatedEmail:
    if len(text.encode()) > EMAIL_BYTES_MAX:
        raise EmailRefused(field="email", rule="length")
    try:
        # `.test` (RFC 2606) is for trying things out; mail to it goes nowhere.
        parts = validate_email(text, check_deliverability=False, strict=True, test_environment=True)
    except (EmailNotValidError, UnicodeError):
        raise EmailRefused(field="email", rule="syntax") from None
    if parts.ascii_domain is None:
        raise EmailRefused(field="email", rule="syntax")
    return parts


def _suffixes(domain: str) -> list[str]:
    """`a.b.c` -> `a.b.c`, `b.c`, `c`."""
    labels = domain.lower().split(".")
    return [".".join(labels[n:]) for n in range(len(labels))]


def email_key(email: str) -> str:
    """Addresses with one key are one account's: case and compatibility forms do not tell them apart.

    RFC 5321 lets a host tell local parts apart by case; none of note does, and people type either.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", email).casefold())


def sign_in_key(text: str) -> str:
    """The key of what somebody typed as an address; never refuses."""
    try:
        return email_key(_validated(text.strip()).normalized)
    except EmailRefused:
        return email_key(text.strip())


def check_profile(profile: Mapping[str, str], paths: Sequence[str]) -> None:
    """Raises ProfileRefused for the first of `paths` that breaks a rule."""
    for path in paths:
        rule = {"display_name": name_rule, "locale": _no_rule, "zone": zone_rule}[path](profile[path])
        if rule:
            raise ProfileRefused(field=path, rule=rule)


def name_rule(name: str) -> str:
    """The rule that a display name breaks; empty when it is good. What is good is kept byte for byte."""
    if not name:
        return "not_empty"
    if len(name) > NAME_CHARS_MAX or len(name.encode()) > NAME_BYTES_MAX:
        return "length"
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
        return "no_control_characters"
    if any(char in OVERRIDES for char in name):
        return "no_direction_overrides"
    if any(_noncharacter(char) for char in name):
        return "no_noncharacters"
    if name != name.strip():
        return "no_blank_ends"
    if not unicodedata.is_normalized("NFC", name):
        return "nfc"
    return ""


def _noncharacter(char: str) -> bool:
    """Unicode §23.7."""
    return 0xFDD0 <= ord(char) <= 0xFDEF or ord(char) & 0xFFFE == 0xFFFE


def _no_rule(_: str) -> str:
    """The contract's pattern says all."""
    return ""


def zone_rule(zone: str) -> str:
    return "" if not zone or zone in ZONES else "iana_zone"


ZONES = frozenset(available_timezones())


def merged_preferences(
    old: Mapping[str, Any], put: Mapping[str, str], remove: Sequence[str]
) -> dict[str, Any]:
    """Raises TooManyPreferences."""
    merged = {name: value for name, value in {**old, **put}.items() if name not in remove}
    if len(merged) > PREFERENCES_MAX:
        raise TooManyPreferences(max=PREFERENCES_MAX)
    return merged
