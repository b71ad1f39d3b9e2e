"""How an OAuth client proves itself at the endpoints (RFC 6749 2.3, OAuth 2.1 2.4)."""

from collections.abc import Mapping

from services.chassis.db import Tx
from services.identity.domain import oauth_client as rules
from services.identity.domain.oauth import OAuthError, basic
from services.identity.domain.oauth_client import ID_CHARS, OAuthClient
from services.identity.service.shared import Shared
from services.identity.store import oauth as store

SECRET_CHARS_MAX = 200  # Ours have 43; a longer text is not worth hashing.


async def proven(tx: Tx, shared: Shared, fields: Mapping[str, str], authorization: str) -> OAuthClient:
    """The client that calls: a confidential one by its secret, a public one by its id. Raises OAuthError.

    What is wrong is not told apart: an unknown client, a wrong secret, a missing one.
    """
    client_id, secret = _named(fields, authorization)
    client = await store.find(tx, client_id) if len(client_id) == ID_CHARS else None
    if client is None or client.disabled or client.confidential != bool(secret):
        raise _refused()
    if secret and not await _right(tx, shared, client_id, secret):
        raise _refused()
    return client


def require_grant(client: OAuthClient, grant: str) -> None:
    """Raises OAuthError."""
    if grant not in client.grant_types:
        raise OAuthError("unauthorized_client")


def _named(fields: Mapping[str, str], authorization: str) -> tuple[str, str]:
    """Id and secret, by one way only."""
    by_header = basic(authorization)
    if by_header is None:
        return fields.get("client_id", ""), fields.get("client_secret", "")
    client_id, secret = by_header
    if "client_secret" in fields or fields.get("client_id", client_id) != client_id or not secret:
        raise OAuthError("invalid_request", "The client proves itself by one way.")
    return client_id, secret


async def _right(tx: Tx, shared: Shared, client_id: str, secret: str) -> bool:
    if len(secret) > SECRET_CHARS_MAX:
        return False
    hash_ = rules.secret_hash(shared.sealer, client_id, secret)
    return await store.has_secret(tx, client_id, hash_, shared.clock.now())


def _refused() -> OAuthError:
    return OAuthError("invalid_client", "The client is not known by these credentials.", 401)
