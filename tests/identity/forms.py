"""An application that uses OAuth, as tests tell it."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from google.api.httpbody_pb2 import HttpBody

from tests.identity.people import Metadata, Person, World
from weft.identity.v1 import oauth_client_pb2, oauth_pb2 as pb
from weft.identity.v1.oauth_client_pb2_grpc import OAuthClientServiceStub
from weft.identity.v1.oauth_pb2_grpc import OAuthServiceStub

FORM, REDIRECT = "application/x-www-form-urlencoded", "https://app.test/back"
CODE = oauth_client_pb2.O_AUTH_GRANT_TYPE_AUTHORIZATION_CODE
REFRESH = oauth_client_pb2.O_AUTH_GRANT_TYPE_REFRESH_TOKEN
CREDENTIALS = oauth_client_pb2.O_AUTH_GRANT_TYPE_CLIENT_CREDENTIALS
DEVICE = oauth_client_pb2.O_AUTH_GRANT_TYPE_DEVICE_CODE
DEVICE_URN = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True)
class Answer:
    """What an endpoint said."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def error(self) -> str:
        return str(self.body.get("error", ""))


@dataclass
class Application:
    """An OAuth client and what it keeps between two steps."""

    world: World
    client_id: str
    secret: str
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def __post_init__(self) -> None:
        self.service = OAuthServiceStub(self.world.lab.channel)

    @property
    def basic(self) -> Metadata:
        text = base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()
        return (("authorization", f"Basic {text}"),)

    def query(self, **fields: str | None) -> str:
        challenge = hashlib.sha256(self.verifier.encode()).digest()
        usual: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT,
            "scope": "openid email offline_access",
            "state": "st~te",
            "nonce": "n-1",
            "code_challenge": base64.urlsafe_b64encode(challenge).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return urlencode({name: value for name, value in {**usual, **fields}.items() if value is not None})

    async def authorize(
        self, person: Person | None, decision: int = pb.CONSENT_DECISION_GRANT, **fields: str | None
    ) -> pb.AuthorizeResponse:
        request = pb.AuthorizeRequest(query=self.query(**fields), decision=decision)  # type: ignore[arg-type]
        response: pb.AuthorizeResponse = await self.service.Authorize(
            request, metadata=person.bearer if person else ()
        )
        return response

    async def sent_back(
        self, person: Person | None, decision: int = pb.CONSENT_DECISION_GRANT, **fields: str | None
    ) -> dict[str, str]:
        """What the redirect brings."""
        response = await self.authorize(person, decision, **fields)
        assert response.WhichOneof("next") == "redirect_uri", response
        query = parse_qs(urlsplit(response.redirect_uri).query)
        return {name: values[0] for name, values in query.items()}

    async def code(self, person: Person, **fields: str | None) -> str:
        return (await self.sent_back(person, **fields))["code"]

    async def post(self, rpc: str, fields: dict[str, str], metadata: Metadata = ()) -> Answer:
        """Posts a form; `rpc` is Token, Revoke, Introspect or AuthorizeDevice."""
        body = HttpBody(content_type=FORM, data=urlencode(fields).encode())
        call = getattr(self.service, rpc)(getattr(pb, f"{rpc}Request")(form=body), metadata=metadata)
        response = await call
        headers = {name: str(value) for name, value in await call.initial_metadata()}
        status = int(headers.get("x-weft-http-status", "200"))
        return Answer(status, json.loads(response.json.data), headers)

    async def token(self, **fields: str) -> Answer:
        """At the token endpoint, with the client's credentials in the form."""
        known = {"client_id": self.client_id, **({"client_secret": self.secret} if self.secret else {})}
        return await self.post("Token", {**known, **fields})

    async def exchange(self, code: str, **fields: str) -> Answer:
        usual = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": self.verifier,
        }
        return await self.token(**{**usual, **fields})

    async def refresh(self, token: str, **fields: str) -> Answer:
        return await self.token(grant_type="refresh_token", refresh_token=token, **fields)


async def application(
    world: World, admin: Person, *, confidential: bool = True, **settings: Any
) -> Application:
    usual = {
        "name": "Planner",
        "redirect_uris": [REDIRECT],
        "grant_types": [CODE, REFRESH],
        "scopes": ["identity.users.read"],
    }
    request = oauth_client_pb2.CreateOAuthClientRequest(
        settings=oauth_client_pb2.OAuthClientSettings(**{**usual, **settings}), confidential=confidential
    )
    clients = OAuthClientServiceStub(world.lab.channel)
    created = await clients.CreateOAuthClient(request, metadata=admin.bearer)
    return Application(world, created.client.client_id, created.client_secret)
