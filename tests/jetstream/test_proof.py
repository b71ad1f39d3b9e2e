"""A client proves who it is by password, token, nkey or credentials; TLS is spoken when either side asks."""

import base64
import binascii
import json
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from services.chassis.jetstream.errors import Insecure, Unauthorized
from services.chassis.jetstream.servers import Options
from services.chassis.jetstream.signing import Key
from tests.jetstream.brokers import broker, certificate
from tests.jetstream.conftest import Connect, echo

LIMITS = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
KINDS = {"operator": 14 << 3, "account": 0, "user": 20 << 3}


class Nkey:
    """A key pair of any kind, encoded as the `nk` tool does."""

    def __init__(self, kind: str) -> None:
        self.private, self.prefix = Ed25519PrivateKey.generate(), KINDS[kind]

    @property
    def public(self) -> str:
        return self._encode(
            bytes([self.prefix]), self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        )

    @property
    def seed(self) -> str:
        first = bytes([18 << 3 | self.prefix >> 5, (self.prefix & 31) << 3])
        return self._encode(
            first, self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        )

    @staticmethod
    def _encode(prefix: bytes, raw: bytes) -> str:
        body = prefix + raw
        check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
        return base64.b32encode(body + check).decode().rstrip("=")

    def jwt(self, subject: str, kind: str) -> str:
        """A claim about `subject`, signed by this key."""
        claims = {
            "jti": "A",
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject,
            "name": "n",
            "nats": {"type": kind, "version": 2, "limits": dict.fromkeys(LIMITS, -1)},
        }
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, claims]
        text = ".".join(_b64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_b64(self.private.sign(text.encode()))}"


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def test_a_user_is_known_by_password_token_or_nkey(tmp_path: Path, connect: Connect) -> None:
    key = Nkey("user")
    users = [{"user": "ann", "password": "p@ss:w"}, {"nkey": key.public}]
    server = broker(tmp_path / "users", authorization={"users": users})
    tokens = broker(tmp_path / "tokens", authorization={"token": "t0k/en"})
    at, guarded = f"127.0.0.1:{server.port}", f"127.0.0.1:{tokens.port}"
    assert Key(key.seed).public == key.public
    for url, options in [
        (f"nats://ann:p%40ss%3Aw@{at}", {}),
        (f"nats://{at}", {"user": "ann", "password": "p@ss:w"}),
        (f"nats://{at}", {"nkey_seed": key.seed}),
        (f"nats://t0k%2Fen@{guarded}", {}),
    ]:
        await (await connect(url, **options)).flush()
    for url, options in [
        (f"nats://ann:wrong@{at}", {}),
        (f"nats://{at}", {}),
        (f"nats://{at}", {"nkey_seed": Nkey("user").seed}),
        (f"nats://wrong@{guarded}", {}),
    ]:
        with pytest.raises(Unauthorized):
            await connect(url, **options)


async def test_a_user_is_known_by_a_credentials_file(tmp_path: Path, connect: Connect) -> None:
    operator, account, user = Nkey("operator"), Nkey("account"), Nkey("user")
    server = broker(
        tmp_path / "nats",
        jetstream=False,
        operator=operator.jwt(operator.public, "operator"),
        resolver="MEMORY",
        resolver_preload={account.public: operator.jwt(account.public, "account")},
    )
    path = tmp_path / "user.creds"
    jwt = account.jwt(user.public, "user")
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"*** IMPORTANT ***\n-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    await (await connect(server.url, credentials=str(path))).flush()
    path.write_text("nothing of use")
    with pytest.raises(Unauthorized, match="holds no JWT"):
        await connect(server.url, credentials=str(path))
    with pytest.raises(Unauthorized, match="cannot be read"):
        await connect(server.url, credentials=str(tmp_path / "none"))


def _damaged(seed: str) -> str:
    """With another last byte of its checksum: of one key in 256 that is zero already."""
    return seed[:-2] + ("BA" if seed.endswith("AA") else "AA")


@pytest.mark.parametrize(
    "seed",
    ["", "SU", "not base32!", Nkey("account").seed, _damaged(Nkey("user").seed)],
    ids=["empty", "short", "not-base32", "an-accounts", "checksum"],  # Two workers must agree on them.
)
def test_what_is_no_users_seed_is_refused_and_not_shown(seed: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        Key(seed)
    assert not seed or seed not in str(refused.value)
    options = Options(servers=["nats://a"], password="hidden1", token="hidden2", nkey_seed="hidden3")
    assert "hidden" not in repr(options)


async def test_tls_is_used_when_either_side_wants_it(tmp_path: Path, connect: Connect) -> None:
    pem = certificate(tmp_path)
    tls = {"cert_file": str(pem), "key_file": str(pem)}
    trusting = ssl.create_default_context(cafile=str(pem))
    guarded = broker(tmp_path / "tls", tls=tls)
    first = broker(tmp_path / "first", tls={**tls, "handshake_first": True})
    plain = broker(tmp_path / "plain")
    for url, options in [
        (guarded.url, {"tls": trusting}),
        (guarded.url.replace("nats:", "tls:"), {"tls": trusting}),
        (first.url, {"tls": trusting, "tls_first": True}),
    ]:
        connection = await connect(url, **options)
        assert connection.link._transport.get_extra_info("cipher")  # type: ignore[union-attr]
        big = await echo(connection, b"x" * 300_000)
        assert len(big) == 300_000
    with pytest.raises(ssl.SSLError):
        await connect(guarded.url)  # By the system's authorities, of which none knows this certificate.
    for url, options in [(plain.url.replace("nats:", "tls:"), {}), (plain.url, {"tls": trusting})]:
        with pytest.raises(Insecure):
            await connect(url, **options)
