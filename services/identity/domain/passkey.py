"""Passkeys: the row, its bounds, and when an authenticator's counter looks cloned."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from services.identity.domain.row import Row

PASSKEYS_MAX = 25  # Of one account; people own a handful of authenticators.
CHALLENGE_S = 300  # WebAuthn Level 3 §15.1 recommends five minutes; a person may have to find a key.
CREDENTIAL_ID_BYTES_MAX = 1_023  # WebAuthn Level 3 §4, Credential ID.
TRANSPORTS_MAX, TRANSPORT_CHARS_MAX = 8, 20  # The standard names six of at most 10 characters.
NAME = "Passkey"
REGISTRATION, SIGN_IN = "passkey_registration", "passkey_sign_in"  # Purposes of a challenge.
NO_MODEL = "00000000-0000-0000-0000-000000000000"  # AAGUID of an authenticator that does not say.
AMR = ("hwk", "user", "mfa")  # RFC 8176: a key of the person's own, their presence, more than one factor.


class ChallengeRefused(FailedPrecondition):
    """The challenge is unknown, was used, or is too old; begin again."""


class PasskeyRefused(InvalidArgument):
    """The authenticator's answer does not verify."""


class PasskeySignInRefused(Unauthenticated):
    """The passkey does not sign anybody in."""


class PasskeyNotFound(NotFound):
    """The account has no passkey {passkey_id}."""


class PasskeyExists(AlreadyExists):
    """The passkey is registered already."""


class TooManyPasskeys(FailedPrecondition):
    """An account has at most {max} passkeys."""


class Passkey(Row):
    """A public key, and what is known of the authenticator that holds the private one."""

    __tablename__ = "passkey"
    passkey_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    credential_id: Mapped[bytes]
    public_key: Mapped[bytes]  # COSE.
    sign_count: Mapped[int]
    transports: Mapped[list[str]]
    name: Mapped[str]
    backed_up: Mapped[bool]
    aaguid: Mapped[str]  # Empty: it does not say.
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]


def usable_transports(given: object) -> list[str]:
    """Hints for the browser, out of what it sent before; anything else is dropped."""
    if not isinstance(given, list):
        return []
    texts = [text for text in given if isinstance(text, str) and 0 < len(text) <= TRANSPORT_CHARS_MAX]
    return texts[:TRANSPORTS_MAX]


def counter_went_back(stored: int, sent: int) -> bool:
    """WebAuthn Level 3 §6.1.1: a counter that does not rise is a copy's; zeroes mean there is none."""
    return (stored > 0 or sent > 0) and sent <= stored
