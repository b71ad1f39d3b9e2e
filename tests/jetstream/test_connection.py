"""A connection proves who it is, keeps its subscriptions through outages, and says when a server is away."""

import asyncio
import base64
import binascii
import json
import signal
import ssl
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from services.chassis.jetstream import connection as connection_module, link, servers
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import (
    Disconnected,
    Insecure,
    JetStreamError,
    NoResponders,
    ProtocolError,
    Refused,
    TooLarge,
    Unauthorized,
)
from services.chassis.jetstream.feed import Feed
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.publisher import Item, Publisher
from services.chassis.jetstream.servers import Options, Servers
from services.chassis.jetstream.signing import Key
from services.chassis.jetstream.stream import Stream
from tests.chassis.waiting import until
from tests.jetstream.brokers import broker, certificate
from tests.jetstream.conftest import Connect, make_stream
from tests.servers import free_port

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


@pytest.mark.parametrize(
    "seed",
    ["", "SU", "not base32!", Nkey("account").seed, Nkey("user").seed[:-2] + "AA"],
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
        big = await _echo(connection, b"x" * 300_000)
        assert len(big) == 300_000
    with pytest.raises(ssl.SSLError):
        await connect(guarded.url)  # By the system's authorities, of which none knows this certificate.
    for url, options in [(plain.url.replace("nats:", "tls:"), {}), (plain.url, {"tls": trusting})]:
        with pytest.raises(Insecure):
            await connect(url, **options)


async def _echo(connection: Connection, payload: bytes) -> bytes:
    def answer(messages: list[Message]) -> None:
        for message in messages:
            connection.publish(message.reply.decode(), message.payload)

    serving = connection.subscribe("echo", answer)
    said = (await connection.request("echo", payload)).payload
    serving.end()
    return said


async def test_requests_are_answered_or_told_why_not(connection: Connection) -> None:
    assert await _echo(connection, b"hello") == b"hello"
    with pytest.raises(NoResponders):
        await connection.request("nobody")
    silent = connection.subscribe("silent", lambda messages: None)
    with pytest.raises(TimeoutError):
        await connection.request("silent", timeout_s=0.05)
    silent.end()
    with pytest.raises(TooLarge):
        connection.publish("a", b"x" * 1_048_577)
    with pytest.raises(Refused, match="stream not found"):
        await connection.api("STREAM.INFO.none")
    assert not connection.link.busy


async def test_members_of_a_queue_share_and_others_hear_all(connection: Connection) -> None:
    shares: list[list[Message]] = [[], []]
    everything: list[Message] = []
    for share in shares:
        connection.subscribe("work.*", share.extend, queue="q")
    connection.subscribe("work.>", everything.extend)
    for n in range(100):
        connection.publish("work.a", b"%d" % n, headers={"N": str(n)})
    await connection.flush()
    assert len(everything) == 100
    assert sorted(len(share) > 0 for share in shares) == [True, True]
    assert sum(map(len, shares)) == 100


async def test_a_failing_subscriber_harms_no_other(connection: Connection) -> None:
    heard: list[Message] = []

    def fail(messages: list[Message]) -> None:
        raise RuntimeError("planted")

    connection.subscribe("a", fail)
    connection.subscribe("a", heard.extend)
    connection.publish("a", b"")
    await connection.flush()
    assert len(heard) == 1


async def test_a_slow_reader_misses_messages_and_knows_how_many(connection: Connection) -> None:
    async with Feed(connection, "a", messages_max=10) as feed:
        for n in range(25):
            connection.publish("a", b"%d" % n)
        await connection.flush()
        assert [message.payload for message in await anext(feed)] == [b"%d" % n for n in range(10)]
        assert feed.missed == 15
        connection.publish("a", b"next")
        assert [message.payload for message in await anext(feed)] == [b"next"]
    async with Feed(connection, "b", bytes_max=10) as feed:
        for _ in range(3):
            connection.publish("b", b"123456")
        await connection.flush()
        assert (len(await anext(feed)), feed.missed) == (1, 2)


async def test_subscriptions_outlive_a_killed_server(tmp_path: Path, connect: Connect) -> None:
    server = broker(tmp_path / "nats")
    connection = await connect(server.url)
    heard: list[Message] = []
    back: list[int] = []
    connection.subscribe("a", heard.extend)
    ended = connection.subscribe("b", heard.extend)
    ended.end()
    off = connection.on_connect(lambda: back.append(connection.connects))
    silent = connection.subscribe("silent", lambda messages: None)
    asked = asyncio.create_task(connection.request("silent"))
    await connection.flush()
    server.kill()
    with pytest.raises(Disconnected):
        await asked
    with pytest.raises(Disconnected):
        connection.publish("a", b"")
    with pytest.raises(Disconnected):
        await connection.request("a")
    silent.end()
    server.start()
    await connection.ready()
    assert back == [2]
    off()
    connection.publish("b", b"")
    connection.publish("a", b"after")
    await connection.flush()
    assert [message.payload for message in heard] == [b"after"]


async def test_a_server_that_does_not_answer_is_left_and_found_again(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = broker(tmp_path / "nats")
    monkeypatch.setattr(link, "PING_EVERY_S", 0.05)
    connection = await connect(server.url)
    monkeypatch.setattr(link, "CONNECT_S_MAX", 0.2)
    server.signal(signal.SIGSTOP)
    await until(lambda: not connection.connected)
    with pytest.raises(Disconnected):
        connection.publish("a", b"")
    server.signal(signal.SIGCONT)
    await connection.ready()
    await connection.flush()


async def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(OSError, match=r"refused|failed|[Cc]onnect"):
        await Connection(Options.of(f"nats://127.0.0.1:{free_port()}")).open()


@pytest.mark.parametrize(
    "greeting",
    [
        b"HELLO\r\n",
        b'INFO {"no": 1}\r\n',
        b"INFO {\r\n",
        b'INFO {"max_payload": 1}\r\n',
        b"-ERR 'no'\r\n",
        b"",
    ],
)
async def test_a_garbling_server_is_left_and_not_believed(greeting: bytes) -> None:
    served = asyncio.Event()

    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if greeting.startswith(b"INFO"):
            await reader.read()
        writer.close()
        await writer.wait_closed()
        served.set()

    async with await asyncio.start_server(garble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((Disconnected, ProtocolError)):
            await Connection(Options.of(f"nats://127.0.0.1:{port}")).open()
        await served.wait()


async def test_permissions_are_told_in_the_log_and_nothing_breaks(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    user = {"user": "ann", "password": "p", "permissions": {"publish": "allowed", "subscribe": "_INBOX.>"}}
    server = broker(tmp_path / "nats", authorization={"users": [user]})
    connection = await connect(f"nats://ann:p@127.0.0.1:{server.port}")
    connection.publish("forbidden", b"")
    await connection.flush()
    assert "Permissions Violation" in caplog.text
    assert connection.connects == 1


async def test_subscriptions_are_bounded(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SUBSCRIPTIONS_MAX", 2)
    made = [connection.subscribe("a", lambda messages: None) for _ in range(2)]
    with pytest.raises(JetStreamError, match="more than 2"):
        connection.subscribe("a", lambda messages: None)
    made[0].end()
    connection.subscribe("a", lambda messages: None).end()


async def test_unsent_bytes_are_bounded(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = broker(tmp_path / "nats")
    connection = await connect(server.url)
    monkeypatch.setattr(link, "UNSENT_BYTES_MAX", 4_000_000)
    server.signal(signal.SIGSTOP)
    with pytest.raises(link.Overrun):
        for _ in range(100):
            connection.publish("a", b"x" * 1_000_000)
    server.signal(signal.SIGCONT)
    await connection.flush()
    assert connection.connects == 1


async def test_a_stream_is_read_purged_and_deleted_from(connection: Connection) -> None:
    await make_stream(connection)
    stream = Stream(connection, "T")
    for n in range(6):
        await connection.request(f"t.{n % 2}", b"%d" % n, headers={"N": f"{n}"})
    record = await stream.get(3)
    assert record
    assert (record.subject, record.payload, record.headers) == ("t.0", b"2", {"N": "2"})
    last = await stream.last("t.1")
    assert last
    assert last.sequence == 6
    assert await stream.purge("t.0", before=4) == 2
    assert await stream.get(3) is None
    assert await stream.delete(2)
    assert not await stream.delete(2)
    assert await stream.purge("t.>") == 3
    assert await stream.last("t.1") is None


def test_servers_that_are_told_of_come_and_go_and_those_configured_stay() -> None:
    pool = Servers(["tls://nats.example:4222", "b"])
    pool.heard(["10.0.0.1:4222", "other.example:4333", "[::1]:5"])
    first, second, told, named, six = pool.round()
    assert (first.tls, first.name) == (True, "")
    assert (second.host, second.port) == ("b", servers.PORT)
    assert (told.tls, told.name) == (True, "nats.example")
    assert (named.port, named.name) == (4333, "")
    assert six.host == "::1"
    pool.last(first)
    pool.heard(["10.0.0.1:4222"])
    assert [each.host for each in pool.round()] == ["b", "10.0.0.1", "nats.example"]
    pool.heard([f"10.0.0.{n}:1" for n in range(200)])
    assert len(pool) <= servers.SERVERS_MAX + 2


@pytest.mark.parametrize("url", ["http://a", "nats://", "tls://:4"])
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="given as"):
        Servers([url])


async def test_the_latest_of_many_subjects_come_together(connection: Connection) -> None:
    await make_stream(connection)
    stream = Stream(connection, "T")
    assert await stream.lasts("t.none.>") == []
    for n in range(6):
        await connection.request(f"t.of.{n % 3}", b"%d" % n)
    await connection.request("t.other", b"")
    assert {each.subject: each.payload for each in await stream.lasts("t.of.*")} == {
        "t.of.0": b"3",
        "t.of.1": b"4",
        "t.of.2": b"5",
    }
    await Publisher(connection).publish_all([Item(f"t.many.{n}", b"") for n in range(1_100)])
    with pytest.raises(Refused):
        await stream.lasts("t.many.*")
