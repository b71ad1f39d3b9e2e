"""The way to the relay: TLS where it is asked for, credentials only over it, and what answers mean."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiosmtplib
import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.chassis.config import BadSetting, load
from services.notification.channel import Result
from services.notification.settings import NotificationSettings
from services.notification.smtp import judged
from tests.notification.messages import becomes, get, notification, send
from tests.notification.relay import Relay
from tests.servers import Shared
from weft.notification.v1 import notification_pb2 as pb


def certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself; with its key in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, encoding = folder / "relay.pem", serialization.Encoding.PEM
    plain, form = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    pem.write_bytes(made.public_bytes(encoding) + key.private_bytes(encoding, form, plain))
    return pem


@asynccontextmanager
async def guarded(pem: Path, kind: str) -> AsyncIterator[Relay]:
    """A relay that takes mail only over TLS and from `ada` with the password `secret`."""
    made, context = Relay(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)

    def known(server: SMTP, session: object, envelope: object, mechanism: str, data: object) -> AuthResult:
        said = getattr(data, "login", b""), getattr(data, "password", b"")
        return AuthResult(success=said == (b"ada", b"secret"), handled=False)

    def session() -> SMTP:
        options: dict[str, object] = {"authenticator": known, "auth_required": True}
        if kind == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        else:
            options |= {"auth_require_tls": False}  # The whole connection is TLS.
        return SMTP(made, hostname="relay.test", loop=asyncio.get_running_loop(), **options)

    over: dict[str, Callable[[], ssl.SSLContext | None]] = {"starttls": lambda: None, "tls": lambda: context}
    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=over[kind]())
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("kind", ["starttls", "tls"])
async def test_mail_goes_over_tls_with_credentials(servers: Shared, tmp_path: Path, kind: str) -> None:
    pem = certificate(tmp_path)
    login = {"smtp_user": "ada", "smtp_password": "secret"}
    async with (
        guarded(pem, kind) as there,
        notification(servers, relay=there.port, smtp_tls=kind, smtp_ca_file=str(pem), **login) as lab,
    ):
        accepted = await send(lab)
        await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
        assert len(there.taken) == 1


@pytest.mark.parametrize("wrong", [{"smtp_ca_file": ""}, {"smtp_password": "other"}])
async def test_relay_that_is_not_ours_or_does_not_know_us_fails_no_message(
    servers: Shared, tmp_path: Path, wrong: dict[str, str]
) -> None:
    """An operator heals it; until then messages wait."""
    pem = certificate(tmp_path)
    login = {"smtp_user": "ada", "smtp_password": "secret", "smtp_ca_file": str(pem), **wrong}
    async with (
        guarded(pem, "starttls") as there,
        notification(servers, relay=there.port, smtp_tls="starttls", attempts_max="10000", **login) as lab,
    ):
        accepted = await send(lab)
        while len((found := await get(lab, accepted.message_id)).attempts) < 3:
            assert found.message.state in (pb.MESSAGE_STATE_QUEUED, pb.MESSAGE_STATE_SENDING)
            await asyncio.sleep(0.02)
        assert not there.taken
        assert "secret" not in str(found)


def test_only_what_is_said_of_the_reader_or_the_mail_is_final() -> None:
    refused = aiosmtplib.SMTPRecipientRefused
    for error, result in (
        (aiosmtplib.SMTPRecipientsRefused([refused(550, "5.1.1 unknown", "a")]), Result.UNREACHABLE),
        (aiosmtplib.SMTPRecipientsRefused([refused(550, "5.7.1 policy", "a")]), Result.REFUSED),
        (aiosmtplib.SMTPRecipientsRefused([refused(450, "4.2.1 busy", "a")]), Result.MAY_PASS),
        (aiosmtplib.SMTPDataError(554, "5.6.0 bad content"), Result.REFUSED),
        (aiosmtplib.SMTPDataError(421, "closing"), Result.MAY_PASS),
        (aiosmtplib.SMTPSenderRefused(550, "5.1.8 who?", "a"), Result.MAY_PASS),
        (aiosmtplib.SMTPAuthenticationError(535, "5.7.8 no"), Result.MAY_PASS),
        (aiosmtplib.SMTPServerDisconnected("gone"), Result.MAY_PASS),
        (aiosmtplib.SMTPNotSupported("no SMTPUTF8"), Result.REFUSED),
        (TimeoutError(), Result.MAY_PASS),
        (ConnectionRefusedError(), Result.MAY_PASS),
    ):
        assert judged(error).result is result, error


@pytest.mark.parametrize(
    "setting",
    [
        {"SMTP_TLS": "perhaps"},
        {"SMTP_HOST": "relay.example", "SMTP_PASSWORD": "x"},
        {"SENDER": "nobody"},
        {"LEASE_S": "10", "SMTP_TIMEOUT_S": "30"},
        {"ATTEMPTS_MAX": "0"},
    ],
)
def test_setting_that_cannot_work_is_refused_at_start_without_its_value(setting: dict[str, str]) -> None:
    environ = {f"WEFT_NOTIFICATION_{name}": value for name, value in setting.items()}
    with pytest.raises(BadSetting) as refused:
        load(NotificationSettings, environ, "WEFT_NOTIFICATION_")
    assert "relay.example" not in str(refused.value)
