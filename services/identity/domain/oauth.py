"""OAuth 2.1's messages: forms, authorization requests, PKCE, errors, and where they are sent."""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode, urlsplit

from services.chassis.errors import InvalidArgument, PermissionDenied
from services.identity.domain.oauth_client import CODE as AUTHORIZATION_CODE

FORM = "application/x-www-form-urlencoded"
FIELDS_MAX = 40  # All standards together define fewer.
SCOPES_MAX, SCOPE_CHARS_MAX = 50, 100  # A consent page lists them; permissions have under 50 letters.
STATE_CHARS_MAX, NONCE_CHARS_MAX = 2_048, 512  # Both travel in addresses, which proxies cut at 8,000.
CODE_S = 60  # RFC 6749 4.1.2 allows ten minutes; a redirect takes seconds.
LOGIN_S = 120  # How old a sign-in may be that `prompt=login` has just asked for.
CODE = "oauth_code"  # Purpose of a one-use code.
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7636 4.2: base64url of a SHA-256.
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
SCOPE = re.compile(r"[!#-\[\]-~]+")  # RFC 6749 3.3
PROMPTS = frozenset({"none", "login", "consent", "select_account"})


class AuthorizationRefused(InvalidArgument):
    """The authorization request breaks the rule {rule}; nobody is sent anywhere."""


class FirstPartyOnly(PermissionDenied):
    """Only a person who signed in here themself may do this."""


class OAuthError(Exception):
    """An error as the standards name it: RFC 6749 5.2, RFC 8628 3.5, RFC 7009 2.2.1."""

    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        super().__init__(error)
        self.error, self.description, self.status = error, description, status

    def body(self) -> dict[str, str]:
        body = {"error": self.error}
        return {**body, "error_description": self.description} if self.description else body


class RedirectedError(Exception):
    """An error that the client is told by redirect (RFC 6749 4.1.2.1)."""

    def __init__(self, error: str, description: str = "") -> None:
        super().__init__(error)
        self.error, self.description = error, description


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An authorization request whose client and redirect URI are yet to be believed."""

    client_id: str
    redirect_uri: str
    fields: Mapping[str, str]

    @property
    def state(self) -> str:
        return self.fields.get("state", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """A good authorization request."""

    client_id: str
    redirect_uri: str
    state: str
    scopes: tuple[str, ...]
    nonce: str
    challenge: str
    prompts: frozenset[str]
    max_age_s: int | None
    login_hint: str
    id_token_hint: str

    @property
    def silent(self) -> bool:
        """Whether the person must not be asked anything."""
        return "none" in self.prompts


def fields_of(text: str) -> dict[str, str]:
    """A query's or form's parameters; none may come twice (RFC 6749 3.1, 3.2). Raises ValueError."""
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a parameter comes twice")
    return {name: value for name, value in fields.items() if value}


def form(content_type: str, data: bytes) -> dict[str, str]:
    """Raises OAuthError."""
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise OAuthError("invalid_request", f"The body must be {FORM}.")
    try:
        return fields_of(data.decode("ascii"))
    except ValueError:
        raise OAuthError("invalid_request", "The form cannot be read, or has a parameter twice.") from None


def asked(query: str) -> Asked:
    """Raises AuthorizationRefused."""
    try:
        fields = fields_of(query)
    except ValueError:
        raise AuthorizationRefused(field="query", rule="readable") from None
    client_id, redirect_uri = fields.get("client_id", ""), fields.get("redirect_uri", "")
    if not client_id or not redirect_uri:
        raise AuthorizationRefused(field="query", rule="client_id_and_redirect_uri")
    return Asked(client_id=client_id, redirect_uri=redirect_uri, fields=fields)


def checked(request: Asked) -> Authorization:
    """Raises RedirectedError; the client and its redirect URI are believed by now."""
    fields = request.fields
    _check_flow(fields)
    prompts = frozenset(fields.get("prompt", "").split())
    if not prompts <= PROMPTS or ("none" in prompts and len(prompts) > 1):
        raise RedirectedError("invalid_request", "prompt is not known, or none is not alone")
    nonce, state = fields.get("nonce", ""), fields.get("state", "")
    if len(nonce) > NONCE_CHARS_MAX or len(state) > STATE_CHARS_MAX:
        raise RedirectedError("invalid_request", "nonce or state is too long")
    return Authorization(
        client_id=request.client_id,
        redirect_uri=request.redirect_uri,
        state=state,
        scopes=authorization_scopes(fields.get("scope", "")),
        nonce=nonce,
        challenge=fields["code_challenge"],
        prompts=prompts,
        max_age_s=_max_age(fields.get("max_age", "")),
        login_hint=fields.get("login_hint", "")[:320],
        id_token_hint=fields.get("id_token_hint", ""),
    )


def _check_flow(fields: Mapping[str, str]) -> None:
    """Only the code flow, by query, with PKCE S256. A client cannot ask for less (RFC 9700 2.1.1)."""
    for name, error in (("request", "request_not_supported"), ("request_uri", "request_uri_not_supported")):
        if name in fields:
            raise RedirectedError(error)
    if fields.get("response_type") != "code":
        raise RedirectedError("unsupported_response_type")
    if fields.get("response_mode", "query") != "query":
        raise RedirectedError("invalid_request", "response_mode must be query")
    challenge = fields.get("code_challenge", "")
    if fields.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise RedirectedError("invalid_request", "PKCE with code_challenge_method S256 is needed")


def _max_age(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise RedirectedError("invalid_request", "max_age must be a number of seconds")
    return int(text)


def authorization_scopes(text: str) -> tuple[str, ...]:
    """Raises RedirectedError."""
    try:
        return scopes(text)
    except ValueError:
        raise RedirectedError("invalid_scope") from None


def scopes(text: str) -> tuple[str, ...]:
    """Sorted, each once. Raises ValueError."""
    found = sorted(set(text.split(" ")) - {""})
    if len(found) > SCOPES_MAX or any(len(s) > SCOPE_CHARS_MAX or not SCOPE.fullmatch(s) for s in found):
        raise ValueError("not a list of scopes")
    return tuple(found)


def proves(challenge: str, verifier: str) -> bool:
    """Whether the verifier is the one that the S256 challenge was made of (RFC 7636 4.6)."""
    if not VERIFIER.fullmatch(verifier):
        return False
    return hmac.compare_digest(s256(verifier), challenge)


def s256(verifier: str) -> str:
    return _base64url(hashlib.sha256(verifier.encode()).digest())


def at_hash(access_token: str) -> str:
    """OpenID Connect Core 3.1.3.6, for ES256: the left half of the SHA-256."""
    return _base64url(hashlib.sha256(access_token.encode()).digest()[:16])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def redirected(uri: str, answer: Mapping[str, str]) -> str:
    """The redirect URI with the answer added to its query; what is there stays as it is."""
    joint = "&" if urlsplit(uri).query else ("" if uri.endswith("?") else "?")
    return uri + joint + urlencode({name: value for name, value in answer.items() if value}, quote_via=quote)


def basic(authorization: str) -> tuple[str, str] | None:
    """Id and secret of HTTP Basic, each form-encoded inside (RFC 6749 2.3.1). None: it is not Basic.

    Raises OAuthError.
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except ValueError:
        raise OAuthError("invalid_client", "The authorization header cannot be read.", 401) from None
    client_id, colon, secret = text.partition(":")
    if not colon:
        raise OAuthError("invalid_client", "The authorization header cannot be read.", 401)
    return unquote_plus(client_id), unquote_plus(secret)


GRANTS = {
    "authorization_code": AUTHORIZATION_CODE,
    "refresh_token": "refresh_token",
    "client_credentials": "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code": "device_code",
}


def host_of(uri: str) -> str:
    """Where a person ends up, to show them: the host, or the scheme of an app."""
    parts = urlsplit(uri)
    return parts.hostname or f"{parts.scheme}:"
