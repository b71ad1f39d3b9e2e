"""Outside OpenID providers, the accounts that they vouch for, and what of their word is believed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.identity.domain.oauth import s256
from services.identity.domain.row import Row

PROVIDERS_MAX = 50  # A sign-in page shows a button for each.
FLOW_S = 600  # To sign in there and be back.
FLOW = "provider_flow"  # Purpose of a one-use code: the `state`.
SKEW_S = 60  # Clocks of other organisations; theirs to keep, ours to bear.
AGE_S_MAX = 600  # An id token that was issued longer ago was not issued for this sign-in.
SUBJECT_CHARS_MAX = 255  # OpenID Connect Core 2.
# Only such as a public key verifies: with `none` or HS256 anybody could sign.
ALGORITHMS = ["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class ProviderNotFound(NotFound):
    """There is no provider {provider_id}."""


class ProviderExists(AlreadyExists):
    """There is a provider of this issuer and client already, or there are too many."""


class IssuerRefused(InvalidArgument):
    """The issuer is not an https URL without query and fragment."""


class IssuerFixed(FailedPrecondition):
    """A provider's issuer stays as it was created."""


class ProviderAway(Unavailable):
    """The provider cannot be reached, or does not answer as the standard says."""


class ProviderSignInRefused(FailedPrecondition):
    """The sign-in is unknown, was ended, is too old, or the provider's answer does not verify."""


class NoLinkedAccount(FailedPrecondition):
    """No account is linked to the one at the provider; sign in first, then link it."""


class LinkedElsewhere(AlreadyExists):
    """The account at the provider, or this provider at the account, is linked already."""


class Provider(Row):
    """An issuer that is believed."""

    __tablename__ = "provider"
    provider_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    issuer: Mapped[str]
    client_id: Mapped[str]
    sealed_secret: Mapped[bytes | None]  # None: we are a public client there.
    scopes: Mapped[list[str]]
    link_by_email: Mapped[bool]
    sign_up: Mapped[bool]
    disabled: Mapped[bool]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def etag(self) -> str:
        return f"{self.revision:x}"

    @property
    def sealed_as(self) -> str:
        """The place that its secret is sealed for."""
        return f"provider:{self.provider_id}"


class ProviderLink(Row):
    """That a provider's account signs a person in."""

    __tablename__ = "provider_link"
    provider_id: Mapped[UUID] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    created_at: Mapped[datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What begins a sign-in and must come back."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outsider:
    """Whom a provider vouches for."""

    subject: str
    email: str  # Empty: none, or not verified by the provider.
    name: str
    locale: str


def check_issuer(issuer: str, development: bool) -> None:
    """Raises IssuerRefused. On a laptop a loopback address may do without TLS."""
    try:
        parts = urlsplit(issuer)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise IssuerRefused(field="settings.issuer") from None
    local = development and parts.scheme == "http" and host in LOOPBACK_HOSTS
    plain = host and parts.username is None and not parts.query and not parts.fragment and issuer.isascii()
    if not plain or not (parts.scheme == "https" or local):
        raise IssuerRefused(field="settings.issuer")


def authorization_url(endpoint: str, provider: Provider, flow: Flow, redirect_uri: str) -> str:
    """Where the person is sent."""
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(sorted({"openid", "email", *provider.scopes})),
        "state": flow.state,
        "nonce": flow.nonce,
        "code_challenge": s256(flow.verifier),
        "code_challenge_method": "S256",
    }
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"


def vouched(claims: Mapping[str, Any], provider: Provider, nonce: str, now: datetime) -> Outsider:
    """Whom an id token with a good signature tells of (OpenID Connect Core 3.1.3.7).

    Raises ProviderSignInRefused.
    """
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    subject, seconds = claims.get("sub"), now.timestamp()
    good = (
        claims.get("iss") == provider.issuer,
        isinstance(audiences, list) and provider.client_id in audiences,
        isinstance(audiences, list) and (len(audiences) == 1 or claims.get("azp") == provider.client_id),
        claims.get("azp", provider.client_id) == provider.client_id,
        _time(claims, "exp") + SKEW_S > seconds,
        seconds - AGE_S_MAX - SKEW_S < _time(claims, "iat") < seconds + SKEW_S,
        claims.get("nonce") == nonce,
        isinstance(subject, str) and 0 < len(subject) <= SUBJECT_CHARS_MAX,
    )
    if not all(good):
        raise ProviderSignInRefused
    return Outsider(
        subject=str(subject),
        email=_text(claims, "email") if claims.get("email_verified") is True else "",
        name=_text(claims, "name"),
        locale=_text(claims, "locale"),
    )


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("-inf")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""
