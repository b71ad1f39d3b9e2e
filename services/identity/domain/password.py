"""Passwords: which are good enough, and the row that holds a hash.

NIST SP 800-63B-4 §3.1.1: at least 15 characters where the password stands alone, 8 beside a second
factor; no rules of composition, no rotation, no truncation; common and guessable ones are refused.
"""

import itertools
import unicodedata
from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unauthenticated
from services.identity.domain.row import Row

CHARS_MAX = 256  # Passphrases fit; hashing work stays bounded.
CONTEXT_CHARS_MIN = 4  # Shorter parts of a name occur in good passwords by chance.
REST_CHARS_MIN = 8  # What must be left of a password without the owner's names, or without repetitions.

# The worst, for a mesh that was given no list; operators bring thousands.
WORST = frozenset(
    {
        *("123456", "12345678", "123456789", "111111", "abc123", "qwerty", "password", "passw0rd"),
        *("iloveyou", "letmein", "monkey", "dragon", "football", "baseball", "welcome", "sunshine"),
        *("princess", "admin", "login", "master", "trustno1", "changeme"),
    }
)


class PasswordRefused(InvalidArgument):
    """The password breaks the rule {rule}."""


class SignInRefused(Unauthenticated):
    """The address and password do not match an account that may sign in."""


class PasswordTooShortAlone(FailedPrecondition):
    """The password is long enough beside a second factor only; change it first."""


class TooBusy(ResourceExhausted):
    """Too many passwords are being checked; try again in a moment."""


class Password(Row):
    """An account's password, hashed."""

    __tablename__ = "password"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[str]
    short: Mapped[bool]  # Good beside a second factor only.
    changed_at: Mapped[datetime]


def normalized(text: str) -> str:
    """One form for what looks the same (NIST SP 800-63B-4 §3.1.1.2; RFC 8265 chooses NFC)."""
    return unicodedata.normalize("NFC", text)


def check(text: str, chars_min: int, common: Set[str], own: Iterable[str] = ()) -> None:
    """`own` are the owner's names and address. Raises PasswordRefused."""
    if rule := broken_rule(normalized(text), chars_min, common, [word for word in own if word]):
        raise PasswordRefused(field="password", rule=rule)


def broken_rule(text: str, chars_min: int, common: Set[str], own: Sequence[str]) -> str:
    """Empty when the password is good."""
    if len(text) < chars_min:
        return "too_short"
    if len(text) > CHARS_MAX:
        return "too_long"
    folded = text.casefold()
    unit = _unit(folded)
    if folded in common or unit in common or folded.rstrip("0123456789!.?-_ ") in common:
        return "common"
    if len(unit) < min(REST_CHARS_MIN, len(text)) or _in_sequence(folded):
        return "repetitive"
    return "personal" if len(_without(folded, own)) < min(REST_CHARS_MIN, chars_min) else ""


def _unit(text: str) -> str:
    """The shortest text of which `text` is a repetition: `abcabc` -> `abc`."""
    return text[: (text + text).find(text, 1)]


def _in_sequence(text: str) -> bool:
    """`abcdef...`, `987654...`; after 9 comes 0."""
    digits = text.isdecimal()
    steps = {(ord(b) - ord(a)) % 10 if digits else ord(b) - ord(a) for a, b in itertools.pairwise(text)}
    return steps in ({1}, {-1}, {9})


def _without(text: str, own: Sequence[str]) -> str:
    """What is left when the owner's names are taken out."""
    words = {part for word in own for part in _parts(word.casefold()) if len(part) >= CONTEXT_CHARS_MIN}
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "")
    return text


def _parts(word: str) -> list[str]:
    return [word, *word.replace("@", " ").replace(".", " ").split()]
