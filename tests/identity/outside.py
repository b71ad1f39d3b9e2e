"""An outside OpenID provider in a thread, which can be told to lie."""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

CLIENT_ID, SECRET = "weft at provider", "s:cr%t &"
MODES = ("honest", "none", "hmac", "own key", "truncated")


@dataclass
class OutsideProvider:
    """What it says of whoever signs in there."""

    now: Any
    claims: dict[str, Any] = field(default_factory=dict)  # Over what is right; None leaves a claim out.
    document: dict[str, Any] = field(default_factory=dict)
    mode: str = "honest"
    issuer: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"use": "sig"}, auto_kid=True))

    def sign_in(self, redirect_uri: str) -> dict[str, str]:
        """A person follows the link and signs in: what they bring back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(redirect_uri).query).items()}
        assert asked["client_id"] == CLIENT_ID
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return {"state": asked["state"], "code": code, "iss": self.issuer}

    def answer(self, path: str, body: str, authorization: str) -> tuple[int, bytes]:
        self.calls.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps(self._discovery()).encode()
        if path == "/keys":
            return 200, json.dumps({"keys": [self.key.as_dict(private=False)]}).encode()
        if path == "/huge":
            return 200, b" " * 1_000_000
        if path == "/token":
            return self._token({name: values[0] for name, values in parse_qs(body).items()}, authorization)
        return 404, b""

    def _discovery(self) -> dict[str, Any]:
        usual = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "authorization_response_iss_parameter_supported": True,
        }
        return {**usual, **self.document}

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, bytes]:
        text = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        client_id, _, secret = text.partition(":")
        if (unquote_plus(client_id), unquote_plus(secret)) != (CLIENT_ID, SECRET):
            return 401, b'{"error": "invalid_client"}'
        asked = self.codes.pop(form["code"], None)
        if asked is None or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, b'{"error": "invalid_grant"}'
        challenge = hashlib.sha256(form["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(challenge).decode().rstrip("=") != asked["code_challenge"]:
            return 400, b'{"error": "invalid_grant"}'
        return 200, json.dumps({"token_type": "Bearer", "id_token": self._id_token(asked["nonce"])}).encode()

    def _id_token(self, nonce: str) -> str:
        now = int(self.now().timestamp())
        right: dict[str, Any] = {
            "iss": self.issuer,
            "sub": "o-1",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
        }
        claims = {name: value for name, value in {**right, **self.claims}.items() if value is not None}
        good = jwt.encode({"alg": "ES256", "kid": self.key.kid}, claims, self.key)
        head, payload, signature = good.split(".")
        if self.mode == "none":
            unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
            return f"{unsigned}.{payload}."
        if self.mode == "hmac":
            public = OctKey.import_key(json.dumps(self.key.as_dict(private=False)).encode())
            return jwt.encode({"alg": "HS256", "kid": self.key.kid}, claims, public)
        if self.mode == "own key":
            return jwt.encode({"alg": "ES256", "kid": self.key.kid}, claims, ECKey.generate_key("P-256"))
        return f"{head}.{payload}.{signature[:-8]}" if self.mode == "truncated" else good


@contextmanager
def serving(provider: OutsideProvider) -> Iterator[OutsideProvider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])).decode())

        def _answer(self, body: str) -> None:
            status, data = provider.answer(self.path, body, self.headers.get("authorization", ""))
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
