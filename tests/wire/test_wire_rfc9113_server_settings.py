"""RFC 9113 §6.5, §9.2: what the server says of itself, how it takes settings, and what it asks of TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest

from tests.wire import octets as o
from tests.wire.certificates import Pair
from tests.wire.hosts import Host, hosted
from tests.wire.peer import Closed, Peer, request
from tests.wire.specimen import fault, pong, served

WINDOW_MAX = 2**31 - 1  # RFC 9113 §6.9.1
NAMES = {1: "table", 2: "push", 3: "streams", 4: "window", 5: "frame", 6: "list"}


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    async with hosted("wire") as host:
        yield host


async def test_the_servers_own_settings_are_valid_and_bounded(host: Host) -> None:
    """§6.5.2; a server must not ask for pushes, and ought to bound streams and header lists."""
    async with await Peer.greeted(host.port) as peer:
        said = dict(peer.seen[0].settings)
        assert said.get(o.ENABLE_PUSH, 0) == 0
        assert said.get(o.INITIAL_WINDOW_SIZE, 0) <= WINDOW_MAX
        assert o.FRAME_BYTES <= said.get(o.MAX_FRAME_SIZE, o.FRAME_BYTES) < 2**24
        assert 0 < said[o.MAX_CONCURRENT_STREAMS] <= 10_000
        assert 0 < said[o.MAX_HEADER_LIST_SIZE] <= 1 << 20


ALLOWED = [
    (o.HEADER_TABLE_SIZE, 0),
    (o.HEADER_TABLE_SIZE, 2**32 - 1),
    (o.ENABLE_PUSH, 0),
    (o.ENABLE_PUSH, 1),
    (o.MAX_CONCURRENT_STREAMS, 0),
    (o.MAX_CONCURRENT_STREAMS, 2**32 - 1),
    (o.INITIAL_WINDOW_SIZE, WINDOW_MAX),
    (o.MAX_FRAME_SIZE, o.FRAME_BYTES),
    (o.MAX_FRAME_SIZE, 2**24 - 1),
    (o.MAX_HEADER_LIST_SIZE, 2**32 - 1),
    (0, 0),
    (0xFFFF, 2**32 - 1),
]


@pytest.mark.parametrize("value", ALLOWED, ids=lambda value: f"{NAMES.get(value[0], value[0])}={value[1]}")
async def test_values_at_the_edge_of_what_is_allowed_are_taken(host: Host, value: tuple[int, int]) -> None:
    async with await Peer.greeted(host.port, value) as peer:
        await peer.send(request())
        await served(peer)


REFUSED = [
    (o.ENABLE_PUSH, 2, o.PROTOCOL_ERROR),
    (o.ENABLE_PUSH, 2**32 - 1, o.PROTOCOL_ERROR),
    (o.INITIAL_WINDOW_SIZE, 2**31, o.FLOW_CONTROL_ERROR),
    (o.INITIAL_WINDOW_SIZE, 2**32 - 1, o.FLOW_CONTROL_ERROR),
    (o.MAX_FRAME_SIZE, 0, o.PROTOCOL_ERROR),
    (o.MAX_FRAME_SIZE, 2**32 - 1, o.PROTOCOL_ERROR),
]


@pytest.mark.parametrize(("number", "value", "code"), REFUSED)
async def test_values_past_the_edge_are_connection_errors_in_the_preface_too(
    host: Host, number: int, value: int, code: int
) -> None:
    async with await Peer.open(host.port) as peer:
        await peer.send(o.PREFACE, o.settings((number, value)))
        assert await peer.fault() == code


async def test_each_settings_frame_is_acknowledged_once(host: Host) -> None:
    """§6.5.3."""
    async with await Peer.greeted(host.port) as peer:
        await peer.send(*[o.settings((o.MAX_CONCURRENT_STREAMS, n)) for n in range(3)], o.settings())
        await pong(peer)
        acks = [f for f in peer.seen if f.kind == o.SETTINGS and f.flags == o.ACK]
        assert len(acks) == 1 + 4
        assert {len(ack.payload) for ack in acks} == {0}


async def test_an_error_among_good_values_is_still_an_error(host: Host) -> None:
    async with await Peer.greeted(host.port) as peer:
        await peer.send(o.settings((0xFF, 1), (o.ENABLE_PUSH, 3), (o.ENABLE_PUSH, 0)))
        await fault(o.PROTOCOL_ERROR)(peer)


@pytest.fixture(scope="module")
async def secure(certificate: Pair) -> AsyncIterator[Host]:
    files = {"key": str(certificate.key), "certificate": str(certificate.certificate)}
    async with hosted("wire", **files) as host:
        yield host


def trusting(certificate: Pair, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate.certificate)
    context.set_alpn_protocols(list(protocols))
    return context


async def test_h2_is_agreed_on_in_the_handshake(secure: Host, certificate: Pair) -> None:
    """§3.2, RFC 7301: also where the client would rather speak HTTP/1.1."""
    for offered in (["h2"], ["http/1.1", "h2"]):
        async with await Peer.greeted(secure.port, context=trusting(certificate, *offered)) as peer:
            assert peer.tls.selected_alpn_protocol() == "h2"
            await peer.send(request())
            await served(peer)


async def test_a_client_that_cannot_speak_h2_is_not_served(secure: Host, certificate: Pair) -> None:
    """§3.2: HTTP/2 over TLS is by ALPN only."""
    with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
        async with await Peer.open(secure.port, trusting(certificate, "http/1.1")) as peer:
            await peer.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            while True:
                assert (await peer.frame()).kind in (o.SETTINGS, o.GOAWAY, o.WINDOW_UPDATE)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls_before_1_2_is_refused(secure: Host, certificate: Pair) -> None:
    """§9.2."""
    context = trusting(certificate, "h2")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Peer.open(secure.port, context)


@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"])
async def test_cipher_suites_that_http_2_prohibits_are_not_agreed_on(
    secure: Host, certificate: Pair, cipher: str
) -> None:
    """§9.2.2, Appendix A: without forward secrecy or without an AEAD."""
    context = trusting(certificate, "h2")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Peer.open(secure.port, context)


async def test_plain_bytes_at_a_tls_port_end_the_connection(secure: Host) -> None:
    async with await Peer.open(secure.port) as peer:
        await peer.send(o.PREFACE, o.settings(), request())
        with pytest.raises(Closed):
            while True:
                await peer.frame()
