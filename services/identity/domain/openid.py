"""OpenID Connect's documents: discovery, id tokens, claims about a person."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.identity.domain.oauth import GRANTS, at_hash
from services.identity.domain.token import STANDARD_SCOPES
from services.identity.domain.user import Person

ID_TOKEN_S = 600  # It tells of a sign-in at a moment; the client checks it at once.
CLAIMS = ("sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "amr", "azp", "at_hash", "sid")
PERSONAL_CLAIMS = ("name", "locale", "zoneinfo", "updated_at", "email", "email_verified")
AUTHENTICATION = ["client_secret_basic", "client_secret_post", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A sign-in that an id token tells a client of."""

    subject: str
    client_id: str
    session_id: str
    nonce: str
    amr: Sequence[str]
    auth_time: datetime
    access_token: str


def discovery(issuer: str) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0, RFC 8414 and what later standards add to them."""
    at = {
        "authorization_endpoint": "/authorize",
        "token_endpoint": "/oauth2/token",
        "revocation_endpoint": "/oauth2/revoke",
        "introspection_endpoint": "/oauth2/introspect",
        "device_authorization_endpoint": "/oauth2/device_authorization",
        "userinfo_endpoint": "/oauth2/userinfo",
        "jwks_uri": "/.well-known/jwks.json",
    }
    return {
        "issuer": issuer,
        **{name: issuer.rstrip("/") + path for name, path in at.items()},
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANTS),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": sorted(STANDARD_SCOPES & {"openid", "profile", "email", "offline_access"}),
        "claims_supported": [*CLAIMS, *PERSONAL_CLAIMS],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "token_endpoint_auth_methods_supported": AUTHENTICATION,
        "revocation_endpoint_auth_methods_supported": AUTHENTICATION,
        "introspection_endpoint_auth_methods_supported": AUTHENTICATION[:2],
        "authorization_response_iss_parameter_supported": True,
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


def id_claims(issuer: str, signed_in: SignedIn, now: datetime) -> dict[str, Any]:
    """Claims of an id token (OpenID Connect Core 2). Its audience is the client, so it opens no door here."""
    body: dict[str, Any] = {
        "iss": issuer,
        "sub": signed_in.subject,
        "aud": signed_in.client_id,
        "azp": signed_in.client_id,
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=ID_TOKEN_S)).timestamp()),
        "auth_time": int(signed_in.auth_time.timestamp()),
        "amr": list(signed_in.amr),
        "sid": signed_in.session_id,
        "at_hash": at_hash(signed_in.access_token),
    }
    return {**body, "nonce": signed_in.nonce} if signed_in.nonce else body


def user_info(person: Person, scope: Collection[str]) -> Mapping[str, Any]:
    """What the scope lets a client know (OpenID Connect Core 5.4)."""
    known: dict[str, Any] = {"sub": str(person.user_id)}
    if "profile" in scope:
        known |= {
            "name": person.display_name,
            "locale": person.locale,
            "zoneinfo": person.zone,
            "updated_at": int(person.updated_at.timestamp()),
        }
    if "email" in scope and person.email is not None:
        known |= {"email": person.email, "email_verified": True}
    return known
