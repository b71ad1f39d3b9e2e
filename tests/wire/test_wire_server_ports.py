"""Where a server listens, and who it believes its peers to be."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.chassis.wire.server import Server, tls
from tests.wire.certificates import Pair, pair
from tests.wire.peer import Peer
from tests.wire.served import PATIENT, handler, path

SPIFFE_ID = "spiffe://weft.test/orders"
TARGET = (("grpc.ssl_target_name_override", "localhost"),)


async def who(request: bytes, context: Any) -> bytes:
    """What the handler is told of its peer."""
    facts = {
        "peer": context.peer(),
        "key": context.peer_identity_key(),
        "identities": context.peer_identities(),
        **context.auth_context(),
    }
    return repr(facts).encode()


async def started(add: Callable[[Server], object], **kinds: Any) -> Server:
    server = Server(PATIENT)
    server.add_generic_rpc_handlers((handler(**kinds),))
    add(server)
    await server.start()
    return server


@pytest.mark.parametrize("scheme", ["unix:", "unix://", "unix-abstract:"])
async def test_calls_come_over_a_unix_socket(tmp_path: Path, scheme: str) -> None:
    address = f"{scheme}{tmp_path}/socket"
    server = await started(lambda server: server.add_insecure_port(address), Unary=who)
    async with grpc.aio.insecure_channel(address) as client:
        told = (await client.unary_unary(path("Unary"))(b"")).decode()
    await server.stop(None)
    assert "'peer': 'unix:" in told
    assert os.listdir(tmp_path) == []


async def test_a_socket_file_of_a_killed_server_is_replaced_and_a_living_ones_is_not(tmp_path: Path) -> None:
    address, file = f"unix:{tmp_path}/socket", str(tmp_path / "socket")
    left = socket.socket(socket.AF_UNIX)
    left.bind(file)
    left.close()
    server = await started(lambda server: server.add_insecure_port(address))
    with pytest.raises(OSError, match="in use"):
        Server().add_insecure_port(address)
    async with grpc.aio.insecure_channel(address) as client:
        assert await client.unary_unary(path("Unary"))(b"x") == b"x"
    await server.stop(None)


async def test_two_servers_never_share_a_port() -> None:
    found: list[int] = []
    server = await started(lambda server: found.append(server.add_insecure_port("127.0.0.1:0")))
    with pytest.raises(OSError, match="in use"):
        Server().add_insecure_port(f"127.0.0.1:{found[0]}")
    await server.stop(None)


@pytest.mark.parametrize("address", ["", "localhost", "127.0.0.1:", "127.0.0.1:http", ":"])
def test_an_address_without_host_and_port_is_refused_by_name(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Server().add_insecure_port(address)


async def test_all_addresses_of_both_families_are_one_port() -> None:
    found: list[int] = []
    server = await started(lambda server: found.append(server.add_insecure_port("[::]:0")), Unary=who)
    for host, name in (("127.0.0.1", b"127.0.0.1"), ("[::1]", b"[::1]")):
        async with grpc.aio.insecure_channel(f"{host}:{found[0]}") as client:
            assert name in await client.unary_unary(path("Unary"))(b"")
    await server.stop(None)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_tls_on_both_loops(tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """With a sync client in a thread: grpc.aio keeps to one loop of the process."""
    own = pair(tmp_path)

    def call(port: int) -> list[bytes]:
        credentials = grpc.ssl_channel_credentials(own.certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{port}", credentials) as client:
            told = client.unary_unary(path("Unary"))(b"")
            return [told, client.stream_unary(path("ClientStream"))(iter([bytes(100_000)] * 20))]

    async def run() -> list[bytes]:
        found: list[int] = []
        context = tls(own.certificate, own.key)
        server = await started(
            lambda server: found.append(server.add_secure_port("127.0.0.1:0", context)), Unary=who
        )
        told = await asyncio.to_thread(call, found[0])
        async with asyncio.timeout(5):
            await server.stop(None)
        return told

    with asyncio.Runner(loop_factory=loop) as runner:
        told, stream = runner.run(run())
    assert b"'transport_security_type': [b'ssl']" in told
    assert len(stream) == 20 * 100_000 + 19


async def test_a_client_without_a_certificate_is_refused_and_one_with_a_spiffe_id_is_known(
    tmp_path: Path,
) -> None:
    own, client_pair = pair(tmp_path), spiffe(tmp_path, SPIFFE_ID)
    found: list[int] = []
    context = tls(own.certificate, own.key, client_roots=client_pair.certificate)
    server = await started(
        lambda server: found.append(server.add_secure_port("127.0.0.1:0", context)), Unary=who
    )
    roots = own.certificate.read_bytes()
    known = grpc.ssl_channel_credentials(
        roots, client_pair.key.read_bytes(), client_pair.certificate.read_bytes()
    )
    async with grpc.aio.secure_channel(f"localhost:{found[0]}", known, options=TARGET) as client:
        told = (await client.unary_unary(path("Unary"))(b"")).decode()
    stranger = grpc.ssl_channel_credentials(roots)
    async with grpc.aio.secure_channel(f"localhost:{found[0]}", stranger, options=TARGET) as client:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.unary_unary(path("Unary"))(b"", timeout=5)
    await server.stop(None)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert f"'peer_spiffe_id': [b'{SPIFFE_ID}']" in told
    assert "'key': 'x509_subject_alternative_name'" in told
    assert "'x509_common_name': [b'orders']" in told


async def test_two_uris_in_a_certificate_are_no_spiffe_id(tmp_path: Path) -> None:
    own, client_pair = pair(tmp_path), spiffe(tmp_path, SPIFFE_ID, "spiffe://weft.test/other")
    found: list[int] = []
    context = tls(own.certificate, own.key, client_roots=client_pair.certificate)
    server = await started(
        lambda server: found.append(server.add_secure_port("127.0.0.1:0", context)), Unary=who
    )
    known = grpc.ssl_channel_credentials(
        own.certificate.read_bytes(), client_pair.key.read_bytes(), client_pair.certificate.read_bytes()
    )
    async with grpc.aio.secure_channel(f"localhost:{found[0]}", known, options=TARGET) as client:
        assert b"peer_spiffe_id" not in await client.unary_unary(path("Unary"))(b"")
    await server.stop(None)


@pytest.mark.parametrize("protocols", [[], ["http/1.1"]], ids=["no ALPN", "http/1.1"])
async def test_tls_without_h2_by_alpn_is_cut(tmp_path: Path, protocols: list[str]) -> None:
    own = pair(tmp_path)
    found: list[int] = []
    server = await started(
        lambda server: found.append(server.add_secure_port("127.0.0.1:0", tls(own.certificate, own.key)))
    )
    context = ssl.create_default_context(cafile=str(own.certificate))
    if protocols:
        context.set_alpn_protocols(protocols)
    async with await Peer.open(found[0], context) as peer:
        assert await peer.rest() == []
    context.set_alpn_protocols(["h2"])
    async with await Peer.greeted(found[0], context=context) as peer:
        assert peer.tls.version() == "TLSv1.3"
    await server.stop(None)


async def test_a_certificate_is_replaced_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old, new = pair(tmp_path), pair(tmp_path / "new")
    context, found = tls(old.certificate, old.key), list[int]()
    server = await started(lambda server: found.append(server.add_secure_port("127.0.0.1:0", context)))
    trusting = {each: ssl.create_default_context(cafile=str(each.certificate)) for each in (old, new)}
    for each in trusting.values():
        each.set_alpn_protocols(["h2"])
    async with await Peer.greeted(found[0], context=trusting[old]) as before:
        context.load_cert_chain(new.certificate, new.key)
        async with await Peer.greeted(found[0], context=trusting[new]):
            await before.pong()
        with pytest.raises(ssl.SSLCertVerificationError):
            await Peer.open(found[0], trusting[old])
    await server.stop(None)


def test_tls_of_the_past_is_refused(tmp_path: Path) -> None:
    """RFC 9113 §9.2.1, §9.2.2."""
    own = pair(tmp_path)
    context = tls(own.certificate, own.key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert all("ECDHE" in cipher["name"] or "TLSv1.3" in str(cipher) for cipher in context.get_ciphers())


def spiffe(folder: Path, *uris: str) -> Pair:
    """A client's certificate that is its own root."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orders")])
    now = datetime.now(UTC)
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = Pair(folder / "client.key", folder / "client.crt")
    made.key.write_bytes(private)
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return made
