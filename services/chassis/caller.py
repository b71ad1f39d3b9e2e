"""Who is calling: the access token of a person or machine, and the signature of a mesh service."""

import json
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from services.chassis.clock import Clock
from services.chassis.errors import PermissionDenied, Unauthenticated

Kind = Literal["anonymous", "user", "service", "api_key", "client"]

TOKENS_CACHED_MAX = 10_000  # Verified tokens one process remembers: about 20 MB at 2 kB each.
TOKEN_BYTES_MAX = 8_192  # Envoy's header limit is 60 kB; a token of ours has under 2 kB.
CLOCK_SKEW_S = 5  # Clocks of two machines drift by seconds.
MESH_TOKEN_S = 60  # How long a signature between services lives; renewed at half of it.
MESH_ISSUER = "weft-mesh"
FIRST_PARTY = "weft"  # `client_id` of Weft's own sign-in.
ACCOUNT = "account"  # The scope by which an application may act on what is its user's own.
SERVICE_HEADER = "x-weft-service"
# Signs what whoever has the mesh's key does by hand and by tools: no service, so no contract names it. What a
# permission guards it may call; of what is internal only what each service may.
OPERATOR = "operator"


class BadToken(Unauthenticated):
    """The access token is refused: {why}."""


class SignInRequired(Unauthenticated):
    """This call needs an access token or an API key."""


class StepUpRequired(Unauthenticated):
    """This call needs a sign-in that is at most {seconds} s old."""


class NotPermitted(PermissionDenied):
    """This call needs the permission {permission}."""


class ImpersonationRefused(PermissionDenied):
    """An impersonated session may not make this call."""


class PersonRequired(PermissionDenied):
    """An application may not make this call: it takes a sign-in at Weft itself."""


class MeshOnly(PermissionDenied):
    """This call is for services of the mesh."""


class NotACaller(PermissionDenied):
    """The service {caller} may not call {rpc} on its own: the contract does not name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a call is from. Anonymous unless a token said otherwise."""

    subject: str = ""  # A user's id, or the name of a service or client.
    kind: Kind = "anonymous"
    scope: frozenset[str] = frozenset()  # What the token grants: permissions, `*` and `x.*` patterns.
    roles: frozenset[str] = frozenset()
    session: str = ""  # Id of the session behind the token.
    acting: str = ""  # Who impersonates the subject (RFC 8693 `act.sub`).
    auth_time: float = 0.0  # When the subject last proved itself, Unix seconds.
    client: str = ""  # OAuth client or API key that the token was issued to.
    via: str = ""  # The mesh service that passed the call on; empty at the edge.
    token: str = ""  # As it came, to be passed on. Never logged.

    def __repr__(self) -> str:
        return f"Caller({self.kind}:{self.subject or '-'} via={self.via or '-'})"

    @property
    def actor(self) -> str:
        """Who answers for what this call does, for events and logs: `user:<id>`, `service:<name>`."""
        return f"{self.kind}:{self.subject}" if self.subject else "anonymous"

    @property
    def first_party(self) -> bool:
        """Whether no application stands between: no API key, no OAuth client."""
        return self.kind == "service" or self.client in ("", FIRST_PARTY)

    @property
    def whole(self) -> bool:
        """Whether it may act on what is the subject's own: an application needs the scope `account`."""
        return self.first_party or self.can(ACCOUNT)

    def can(self, permission: str) -> bool:
        """Whether the token grants `permission`, literally or by a pattern above it."""
        if permission in self.scope or "*" in self.scope:
            return True
        parts = permission.split(".")
        return any(".".join(parts[:n]) + ".*" in self.scope for n in range(1, len(parts)))


ANONYMOUS = Caller()


class Verifier:
    """Turns tokens into callers. Holds the issuer's public keys, which may change at any time."""

    def __init__(self, *, issuer: str, audience: str, mesh_key: str, clock: Clock) -> None:
        self._issuer, self._audience, self._clock = issuer, audience, clock
        self._mesh_key = OctKey.import_key(mesh_key)
        self._published: list[Any] = []
        self._trusted: list[Any] = []
        self._keys: KeySet | None = None
        self._seen: OrderedDict[str, tuple[Caller, float]] = OrderedDict()

    def use_keys(self, jwks: str) -> None:
        """Replaces the public keys (RFC 7517 JWK Set). Tokens of a key that left are refused at once."""
        self._published = json.loads(jwks)["keys"]
        self._use()

    def trust(self, jwk: Any) -> None:
        """Accepts one more key, whatever the issuer publishes (tests, an outside issuer)."""
        self._trusted.append(jwk)
        self._use()

    def _use(self) -> None:
        self._keys = KeySet.import_key_set({"keys": [*self._published, *self._trusted]})
        self._seen.clear()

    def caller(self, authorization: str, mesh_token: str) -> Caller:
        """Raises BadToken. Without any token: ANONYMOUS."""
        via = self._service(mesh_token) if mesh_token else ""
        if authorization and authorization[:6].lower() != "basic ":  # OAuth's endpoints check that.
            caller = self._person(authorization)
            return _passed_on(caller, via) if via else caller
        return Caller(subject=via, kind="service", scope=frozenset({"*"}), via=via) if via else ANONYMOUS

    def _person(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_BYTES_MAX:
            raise BadToken(why="the authorization header is not `Bearer <token>`")
        return self._cached(token) or self._remember(token, *self._verify(token))

    def _verify(self, token: str) -> tuple[Caller, float]:
        if self._keys is None:
            raise BadToken(why="no signing keys are known yet")
        try:
            claims = jwt.decode(token, self._keys, algorithms=["ES256"]).claims
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise BadToken(why="its signature does not verify") from error
        self._check(claims, issuer=self._issuer)
        audience = claims.get("aud")
        if self._audience not in ([audience] if isinstance(audience, str) else audience or []):
            raise BadToken(why="it is meant for another audience")
        return _from_claims(claims, token), float(claims["exp"])

    def _service(self, token: str) -> str:
        if cached := self._cached(token):
            return cached.subject
        try:
            claims = jwt.decode(token, self._mesh_key, algorithms=["HS256"]).claims
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise BadToken(why="the service's signature does not verify") from error
        self._check(claims, issuer=MESH_ISSUER)
        return self._remember(
            token, Caller(subject=str(claims["sub"]), kind="service"), claims["exp"]
        ).subject

    def _check(self, claims: dict[str, Any], issuer: str) -> None:
        now = self._clock.epoch()
        if claims.get("iss") != issuer:
            raise BadToken(why="another issuer signed it")
        if not isinstance(claims.get("exp"), int | float) or claims["exp"] + CLOCK_SKEW_S < now:
            raise BadToken(why="it has expired")
        if float(claims.get("nbf", 0)) - CLOCK_SKEW_S > now:
            raise BadToken(why="it is not valid yet")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise BadToken(why="it names no subject")

    def _cached(self, token: str) -> Caller | None:
        found = self._seen.get(token)
        if found is None:
            return None
        if found[1] + CLOCK_SKEW_S < self._clock.epoch():
            del self._seen[token]
            return None
        return found[0]

    def _remember(self, token: str, caller: Caller, expires: float) -> Caller:
        self._seen[token] = (caller, expires)
        if len(self._seen) > TOKENS_CACHED_MAX:
            self._seen.popitem(last=False)
        return caller


class Signer:
    """Signs this service's calls to others; one signature serves many calls."""

    def __init__(self, service: str, mesh_key: str, clock: Clock) -> None:
        self._service, self._clock = service, clock
        self._key = OctKey.import_key(mesh_key)
        self._token, self._renew_at = "", 0.0

    def token(self) -> str:
        now = self._clock.epoch()
        if not self._renew_at - MESH_TOKEN_S < now < self._renew_at:
            self._token = mesh_token(self._service, self._key, int(now) + MESH_TOKEN_S)
            self._renew_at = now + MESH_TOKEN_S / 2
        return self._token


def mesh_token(service: str, mesh_key: OctKey, expires: int) -> str:
    """What proves a service until `expires` (Unix seconds): a long time only for what cannot sign itself."""
    claims = {"iss": MESH_ISSUER, "sub": service, "exp": expires, "jti": secrets.token_hex(8)}
    return jwt.encode({"alg": "HS256"}, claims, mesh_key)


def _passed_on(caller: Caller, via: str) -> Caller:
    """The same caller, named with the service that passed the call on."""
    fields = {name: getattr(caller, name) for name in Caller.__slots__}
    return Caller(**{**fields, "via": via})


def _from_claims(claims: dict[str, Any], token: str) -> Caller:
    """RFC 9068 claims, and RFC 8693 `act`."""
    kind = claims.get("kind", "user")
    if kind not in ("user", "api_key", "client"):
        raise BadToken(why="it is of an unknown kind")
    return Caller(
        subject=claims["sub"],
        kind=kind,
        scope=frozenset(str(claims.get("scope", "")).split()),
        roles=frozenset(map(str, claims.get("roles", []))),
        session=str(claims.get("sid", "")),
        acting=str((claims.get("act") or {}).get("sub", "")),
        auth_time=float(claims.get("auth_time", 0)),
        client=str(claims.get("client_id", "")),
        token=token,
    )
