"""OAuth clients: what one may do, how it proves itself, and where people may be sent back to."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from services.identity.domain.row import Row
from services.identity.domain.sealing import Sealer
from services.identity.domain.token import STANDARD_SCOPES, covers

ID_ALPHABET, ID_CHARS = "abcdefghijklmnopqrstuvwxyz234567", 24
SECRET_BYTES = 32
SECRETS_MAX = 5  # Good at once: a rotation leaves two; nobody needs to overlap more often.
CODE, REFRESH = "authorization_code", "refresh_token"
CREDENTIALS, DEVICE = "client_credentials", "device_code"
LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\])(:\d{1,5})?(/.*)?", re.DOTALL)
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
VISIBLE = re.compile(r"[!-~]+")  # RFC 3986 has no other characters.


class ClientNotFound(NotFound):
    """There is no OAuth client {client_id}."""


class ClientRefused(InvalidArgument):
    """The client's {field} breaks the rule {rule}."""


class ClientPublic(FailedPrecondition):
    """The client {client_id} is public and has no secret."""


class OAuthClient(Row):
    """An application."""

    __tablename__ = "oauth_client"
    client_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    confidential: Mapped[bool]
    redirect_uris: Mapped[list[str]]
    grant_types: Mapped[list[str]]
    scopes: Mapped[list[str]]
    trusted: Mapped[bool]
    service_account_id: Mapped[UUID | None]
    disabled: Mapped[bool]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def etag(self) -> str:
        return f"{self.revision:x}"

    def changed(self, now: datetime) -> None:
        self.revision += 1
        self.updated_at = now


class OAuthClientSecret(Row):
    """The keyed hash of one secret of a client."""

    __tablename__ = "oauth_client_secret"
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    client_id: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]  # None: until it is rotated.


class OAuthConsent(Row):
    """That a person let a client in."""

    __tablename__ = "oauth_consent"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(primary_key=True)
    scopes: Mapped[list[str]]
    granted_at: Mapped[datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What an administrator says of a client."""

    name: str
    redirect_uris: Sequence[str]
    grant_types: Sequence[str]
    scopes: Sequence[str]
    trusted: bool
    service_account_id: UUID | None
    disabled: bool


def new_id() -> str:
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_CHARS))


def new_secret() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def secret_hash(sealer: Sealer, client_id: str, secret: str) -> bytes:
    """What is stored of a client's secret."""
    return sealer.mac("oauth_client", f"{client_id}:{secret}".encode())


def check(described: Described, confidential: bool) -> None:
    """Raises ClientRefused for the first rule that is broken."""
    grants = set(described.grant_types)
    for uri in described.redirect_uris:
        if rule := redirect_rule(uri):
            raise ClientRefused(field="settings.redirect_uris", rule=rule)
    if (CODE in grants) != bool(described.redirect_uris):
        raise ClientRefused(field="settings.redirect_uris", rule="with_authorization_code")
    if CREDENTIALS in grants and not confidential:
        raise ClientRefused(field="settings.grant_types", rule="client_credentials_confidential")
    if (CREDENTIALS in grants) != (described.service_account_id is not None):
        raise ClientRefused(field="settings.service_account_id", rule="with_client_credentials")
    if grants == {REFRESH}:
        raise ClientRefused(field="settings.grant_types", rule="refresh_token_beside_another")


def redirect_rule(uri: str) -> str:
    """The rule that a redirect URI breaks at registration; empty when it is good (RFC 9700 2.1, RFC 8252)."""
    if not VISIBLE.fullmatch(uri) or "\\" in uri:
        return "characters"
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "syntax"
    if "#" in uri or parts.username is not None:
        return "no_fragment_no_user"
    if parts.scheme == "https":
        return "" if host else "host"
    if parts.scheme == "http":
        return "" if host in LOOPBACK_HOSTS else "https"
    return "" if "." in parts.scheme else "scheme"


def redirect_known(registered: Sequence[str], given: str) -> bool:
    """Whether people may be sent to `given`: character for character, but for a loopback address's port."""
    if given in registered:
        return True
    bare = _without_port(given)
    return bare is not None and any(_without_port(uri) == bare for uri in registered)


def _without_port(uri: str) -> tuple[str, str] | None:
    matched = LOOPBACK.fullmatch(uri)
    return (matched[1], matched[3] or "") if matched else None


def remembers_consent(client: OAuthClient, redirect_uri: str) -> bool:
    """Whether a consent of before counts: not where anybody could pose as the client (RFC 8252 8.6)."""
    return client.confidential or redirect_uri.startswith("https:")


def may_ask(client: OAuthClient, scopes: Sequence[str]) -> bool:
    """Whether every scope is OpenID's or among those that the client may ask for."""
    return all(scope in STANDARD_SCOPES or covers(set(client.scopes), scope) for scope in scopes)
