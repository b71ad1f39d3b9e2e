"""API keys: how one looks, what is stored of it, and when it is good."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from services.identity.domain.row import Row
from services.identity.domain.sealing import Sealer

MARK = "weft"  # What scanners for leaked secrets look for.
ID_ALPHABET, ID_CHARS = "abcdefghijklmnopqrstuvwxyz234567", 16  # 80 bits: ids are public, yet not guessed.
SECRET_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_CHARS = 43  # 256 bits.
KEYS_MAX = 100  # Good ones of one owner; more would be a sign of keys that nobody revokes.
KEPT_DAYS = 90  # How long a void key is listed.
USED_EVERY = timedelta(minutes=1)  # How exact the last use is: a write a minute, not one a call.
USER, SERVICE_ACCOUNT = "user", "service_account"


class ApiKeyNotFound(NotFound):
    """The owner has no API key {api_key_id}."""


class ApiKeyVoid(FailedPrecondition):
    """The API key was revoked or has expired."""


class TooManyApiKeys(FailedPrecondition):
    """An owner has at most {max} API keys."""


class OwnerNotFound(NotFound):
    """There is neither an account nor a service account {owner_id}."""


class ExpiryRefused(InvalidArgument):
    """An API key expires in the future."""


class ApiKey(Row):
    """A key's owner and bounds. Its secrets are rows of their own, for they overlap."""

    __tablename__ = "api_key"
    api_key_id: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID]
    owner_kind: Mapped[str]
    name: Mapped[str]
    scopes: Mapped[list[str] | None]  # None: all that the owner has.
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    @property
    def prefix(self) -> str:
        return f"{MARK}_{self.api_key_id}"

    def good(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class ApiKeySecret(Row):
    """The keyed hash of one secret of a key."""

    __tablename__ = "api_key_secret"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    api_key_id: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]  # None: until it is rotated.


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as its bearer sends it, taken apart."""

    api_key_id: str
    secret: str = field(repr=False)


def new_id() -> str:
    return _random(ID_ALPHABET, ID_CHARS)


def new_secret() -> str:
    return _random(SECRET_ALPHABET, SECRET_CHARS)


def whole(api_key_id: str, secret: str) -> str:
    """`weft_<id>_<secret>`"""
    return f"{MARK}_{api_key_id}_{secret}"


def presented(text: str) -> Presented | None:
    """None: it cannot be one of ours."""
    mark, _, rest = text.partition("_")
    api_key_id, _, secret = rest.partition("_")
    sized = (len(api_key_id), len(secret)) == (ID_CHARS, SECRET_CHARS)
    spelled = set(api_key_id) <= set(ID_ALPHABET) and set(secret) <= set(SECRET_ALPHABET)
    if mark != MARK or not sized or not spelled:
        return None
    return Presented(api_key_id, secret)


def secret_hash(sealer: Sealer, key: Presented) -> bytes:
    """What is stored of a secret: nobody without the service's key can tell whether a guess is right."""
    return sealer.mac("api_key", f"{key.api_key_id}:{key.secret}".encode())


def _random(alphabet: str, count: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(count))
