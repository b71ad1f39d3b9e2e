"""Outside OpenID providers over HTTP: discovery, keys, and a code's exchange for an id token.

Everything that comes back is theirs: bounded, never followed elsewhere, believed only by signature.
"""

import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.chassis.clock import Clock
from services.identity.domain.provider import (
    ALGORITHMS,
    LOOPBACK_HOSTS,
    Outsider,
    Provider,
    ProviderAway,
    ProviderSignInRefused,
    vouched,
)

TIMEOUT_S = 5.0  # A person waits; a provider that takes longer is away.
BYTES_MAX = 262_144  # The largest key sets in use have about 20 kB.
DOCUMENT_S = 3_600.0  # How long a discovery document is believed; endpoints hardly ever move.
KEYS_S, KEYS_AGAIN_S = 600.0, 30.0  # Keys are read again when one is missing, but not at anybody's pace.
DOCUMENTS_MAX = 100  # Twice as many as there are providers.
DISCOVERY = "/.well-known/openid-configuration"
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
TOKEN_CHARS_MAX = 16_384  # Providers put groups into id tokens; the longest known have a few thousand.


@dataclass(slots=True)
class _Known:
    """What a provider last said of itself."""

    document: Mapping[str, Any]
    read_at: float
    keys: KeySet | None = None
    keys_at: float = 0.0


class Outside:
    """Talks to providers. One a process."""

    def __init__(self, clock: Clock, development: bool) -> None:
        self._clock, self._development = clock, development
        self._tls = ssl.create_default_context()
        self._known: dict[str, _Known] = {}

    async def document(self, provider: Provider) -> Mapping[str, Any]:
        """The discovery document. Raises ProviderAway."""
        return (await self._knowing(provider)).document

    async def exchanged(
        self, provider: Provider, secret: str, form: Mapping[str, str], nonce: str
    ) -> Outsider:
        """Whom the provider vouches for, for a code. Raises ProviderAway, ProviderSignInRefused."""
        known = await self._knowing(provider)
        answer = await self._post(str(known.document["token_endpoint"]), provider, secret, form)
        token = answer.get("id_token")
        if not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX:
            raise ProviderSignInRefused
        claims = await self._verified(known, token)
        return vouched(claims, provider, nonce, self._clock.now())

    async def _knowing(self, provider: Provider) -> _Known:
        known, now = self._known.get(provider.issuer), self._clock.monotonic()
        if known is None or now - known.read_at > DOCUMENT_S:
            document = await self._get(provider.issuer.rstrip("/") + DISCOVERY)
            if document.get("issuer") != provider.issuer:
                raise ProviderAway
            if not all(self._fit(document.get(name)) for name in ENDPOINTS):
                raise ProviderAway
            known = _Known(document, now)
            if len(self._known) >= DOCUMENTS_MAX:
                self._known.clear()
            self._known[provider.issuer] = known
        return known

    def _fit(self, url: object) -> bool:
        """Whether a URL out of a document may be called."""
        if not isinstance(url, str):
            return False
        parts = urlsplit(url)
        local = self._development and parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS
        return local or (parts.scheme == "https" and bool(parts.hostname))

    async def _verified(self, known: _Known, token: str) -> Mapping[str, Any]:
        """Claims of a token that a key of the provider signed. Raises ProviderSignInRefused."""
        keys = await self._keys(known, again=False)
        if not _names_one_of(token, keys):
            keys = await self._keys(known, again=True)
        try:
            return jwt.decode(token, keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError, KeyError):
            raise ProviderSignInRefused from None

    async def _keys(self, known: _Known, *, again: bool) -> KeySet:
        now = self._clock.monotonic()
        if known.keys is None or now - known.keys_at > (KEYS_AGAIN_S if again else KEYS_S):
            published = await self._get(str(known.document["jwks_uri"]))
            try:
                known.keys, known.keys_at = _public(published), now
            except (JoseError, ValueError, TypeError, KeyError):
                raise ProviderAway from None
        return known.keys

    async def _get(self, url: str) -> dict[str, Any]:
        return await self._asked(lambda http: http.stream("GET", url))

    async def _post(
        self, url: str, provider: Provider, secret: str, form: Mapping[str, str]
    ) -> dict[str, Any]:
        """By client_secret_basic, which every provider has to know; as a public client by id alone."""
        auth = httpx.BasicAuth(_quoted(provider.client_id), _quoted(secret)) if secret else None
        fields = {**form} if secret else {**form, "client_id": provider.client_id}
        return await self._asked(lambda http: http.stream("POST", url, data=fields, auth=auth))

    async def _asked(self, ask: Callable[[httpx.AsyncClient], Any]) -> dict[str, Any]:
        """A JSON object. Raises ProviderAway; ProviderSignInRefused when they refused."""
        try:
            async with httpx.AsyncClient(verify=self._tls, timeout=TIMEOUT_S) as http, ask(http) as response:
                data = b""
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > BYTES_MAX:
                        raise ProviderAway
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL):
            raise ProviderAway from None
        if status in (400, 401):
            raise ProviderSignInRefused
        return _object(data) if status == 200 else _away()


def _public(published: Mapping[str, Any]) -> KeySet:
    """The keys that may verify: a symmetric one among them would let anybody sign. Raises ValueError."""
    keys = [key for key in published["keys"] if key.get("kty") in ("RSA", "EC", "OKP")]
    return KeySet.import_key_set({"keys": [key for key in keys if key.get("use", "sig") == "sig"]})


def _names_one_of(token: str, keys: KeySet) -> bool:
    """Whether the token's key is among these, or it names none."""
    try:
        kid = jws.extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError, TypeError):
        return True
    return kid is None or any(key.kid == kid for key in keys.keys)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise ProviderAway from None
    return value if isinstance(value, dict) else _away()


def _away() -> dict[str, Any]:
    raise ProviderAway


def _quoted(text: str) -> str:
    """Form-encoded inside Basic (RFC 6749 2.3.1)."""
    return quote_plus(text)
