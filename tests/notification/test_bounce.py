"""Reports about mail: what 749 real ones say, and what follows from one about a message of ours."""

import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import cache

import grpc
import pytest

from services.chassis.clock import uuid7
from services.chassis.testing import Lab, reason
from services.notification import bounce
from services.notification.bounce import Kind
from tests.data import shared
from tests.notification.messages import becomes, events, get, mails, send, wanted
from weft.notification.v1 import notification_pb2 as pb, suppression_pb2
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub

# What the corpus' own file names say: `lhost-` and `rhost-` are failures as a mail system reports them,
# `arf` feedback loops, `rfc3834` automatic replies, `make` failures of many kinds.
EXPECTED = {
    "arf": {Kind.COMPLAINT, Kind.NONE},
    "rfc3834": {Kind.NONE},
    "is": {Kind.NONE},
}
# Some of the mails went to addresses named after the fault they provoke, or link to its description.
FAULT = re.compile(rb"(?i)reason/#([a-z]+)|\b([a-z]{5,20})@(?:libsisimai|bouncehammer)\.(?:net|org)")
OF_THE_ADDRESS = {"userunknown", "hostunknown", "hasmoved", "suspend", "filtered", "syntaxerror"}
OTHER_FAULTS = {
    *("authfailure", "blocked", "contenterror", "exceedlimit", "expired", "mailboxfull", "mailererror"),
    *("mesgtoobig", "norelaying", "notaccept", "onhold", "policyviolation", "securityerror"),
    *("spamdetected", "systemerror", "virusdetected"),
}


@cache
def corpus() -> tuple[tuple[str, bytes], ...]:
    """Name and source of each message."""
    return tuple(_read())


def _read() -> Iterator[tuple[str, bytes]]:
    with tarfile.open(shared("17_email/sisimai_bounces.tar.gz")) as archive:
        for member in archive:
            if member.isfile() and "/maildir/" in member.name:
                file = archive.extractfile(member)
                assert file is not None
                yield member.name.rpartition("maildir/")[2], file.read()


def family(name: str) -> str:
    return name.rpartition("/")[2].split("-")[0]


def test_corpus_is_read_as_measured() -> None:
    """Not a target but the measure of what this reader does: change it knowingly."""
    found: dict[str, Counter[str]] = {}
    for name, source in corpus():
        found.setdefault(family(name), Counter())[bounce.read(source).kind] += 1
    assert sum(map(Counter.total, found.values())) == 749
    failures = found["lhost"] + found["rhost"] + found["rfc3464"] + found["make"]
    assert failures.total() == 721
    read = failures.total() - failures[Kind.NONE]
    assert read / failures.total() >= 0.89
    assert set(found["arf"]) <= EXPECTED["arf"]
    assert set(found["rfc3834"]) <= EXPECTED["rfc3834"]
    assert set(found["is"]) <= EXPECTED["is"]


def test_failures_that_tell_their_fault_are_judged_by_it() -> None:
    judged: Counter[str] = Counter()
    for name, source in corpus():
        told = {(address or link).decode().lower() for link, address in FAULT.findall(source)}
        faults = told & (OF_THE_ADDRESS | OTHER_FAULTS)
        kind = bounce.read(source).kind
        if len(faults) == 1 and kind is not Kind.NONE:
            fault = faults.pop()
            assert (kind is Kind.HARD) == (fault in OF_THE_ADDRESS), name
            judged[fault] += 1
    assert judged.total() >= 28
    assert len(judged) >= 20


def test_precise_status_decides_and_vague_status_asks_the_words() -> None:
    hard, soft = Kind.HARD, Kind.SOFT
    for status, words, kind in (
        ("5.1.1", "", hard),
        ("5.1.10", "null MX", hard),
        ("5.2.1", "account disabled", hard),
        ("5.2.1", "mailbox is over quota", soft),
        ("5.2.2", "user unknown", soft),
        ("5.7.1", "blocked by policy", soft),
        ("5.7.1", "550 No such user here", hard),
        ("", "550 User unknown", hard),
        ("", "552 message too big", soft),
        ("", "554 we do not like you", soft),
    ):
        assert bounce.refused(550, status, words) is kind, (status, words)
    assert bounce.refused(451, "4.1.1", "user unknown") is soft


def report(mail: bytes, *, status: str = "5.1.1", action: str = "failed") -> bytes:
    """An RFC 3464 report that returns the headers of `mail`."""
    headers = mail.split(b"\r\n\r\n")[0]
    return (
        b"From: MAILER-DAEMON@mx.example\r\nTo: no-reply@weft.example\r\nReturn-Path: <>\r\n"
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n"
        b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
        b"Final-Recipient: rfc822; ada@example.com\r\nAction: " + action.encode() + b"\r\n"
        b"Status: " + status.encode() + b"\r\nDiagnostic-Code: smtp; 550 told\r\n\r\n"
        b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n" + headers + b"\r\n\r\n--b--\r\n"
    )


COMPLAINT = (
    b'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nSpam.\r\n"
    b"--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\r\n"
    b"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n%s\r\n\r\n--b--\r\n"
)


async def record(lab: Lab, source: bytes) -> suppression_pb2.RecordBounceResponse:
    request = suppression_pb2.RecordBounceRequest(report=source)
    answer: suppression_pb2.RecordBounceResponse = await NotificationServiceStub(lab.channel).RecordBounce(
        request, metadata=lab.bearer()
    )
    return answer


async def arrived(lab: Lab, request: pb.SendMessageRequest | None = None) -> tuple[str, bytes]:
    """Id and source of a message that was sent."""
    accepted = await send(lab, request)
    await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    return accepted.message_id, (await mails(lab))[0].source


async def test_hard_bounce_fails_the_message_and_suppresses_the_address_once(lab: Lab) -> None:
    message_id, source = await arrived(lab)
    for _ in range(3):
        answer = await record(lab, report(source))
        assert (answer.kind, answer.message_id) == (suppression_pb2.BOUNCE_KIND_HARD, message_id)
    assert (await get(lab, message_id)).message.state == pb.MESSAGE_STATE_FAILED
    assert (await events(lab))[2:] == ["MessageFailed", "AddressSuppressed"]
    next_one = await send(lab)
    await becomes(lab, next_one.message_id, pb.MESSAGE_STATE_SUPPRESSED)

    stub = NotificationServiceStub(lab.channel)
    request = suppression_pb2.ListSuppressionsRequest(filter='address = "ada@example.com"')
    [held] = (await stub.ListSuppressions(request, metadata=lab.bearer())).suppressions
    assert (held.status, held.message_id) == ("5.1.1", message_id)
    release = suppression_pb2.DeleteSuppressionRequest(suppression_id=held.suppression_id)
    await stub.DeleteSuppression(release, metadata=lab.bearer())
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await stub.DeleteSuppression(release, metadata=lab.bearer())
    assert reason(gone.value) == "UNKNOWN_SUPPRESSION"
    await arrived(lab)


async def test_soft_bounce_fails_the_message_only(lab: Lab) -> None:
    message_id, source = await arrived(lab)
    await record(lab, report(source, status="5.2.2"))
    assert (await get(lab, message_id)).message.state == pb.MESSAGE_STATE_FAILED
    await arrived(lab)


async def test_delay_changes_nothing_and_delivery_moves_forward_only(lab: Lab) -> None:
    message_id, source = await arrived(lab)
    await record(lab, report(source, status="4.4.1", action="delayed"))
    assert (await get(lab, message_id)).message.state == pb.MESSAGE_STATE_SENT
    delivered = report(source, status="2.0.0", action="delivered")
    await record(lab, delivered)
    assert (await get(lab, message_id)).message.state == pb.MESSAGE_STATE_DELIVERED
    await record(lab, report(source))
    await record(lab, delivered)
    assert (await get(lab, message_id)).message.state == pb.MESSAGE_STATE_FAILED


async def test_report_that_is_not_about_our_mail_has_no_effect(lab: Lab) -> None:
    message_id, source = await arrived(lab)
    forged = re.sub(rb"(Message-ID: <[0-9a-f-]{36}\.)[0-9a-f]{16}", rb"\g<1>0123456789abcdef", source)
    assert forged != source
    unknown = source.replace(message_id.encode(), str(uuid7()).encode())
    for about in (forged, unknown, b"Subject: nothing of yours"):
        answer = await record(lab, report(about))
        assert (answer.kind, answer.message_id) == (suppression_pb2.BOUNCE_KIND_HARD, "")
    assert len(await events(lab)) == 2


async def test_complaint_opts_the_reader_out_of_all_but_security(lab: Lab) -> None:
    _, source = await arrived(lab, wanted("welcome"))
    answer = await record(lab, COMPLAINT % source.split(b"\r\n\r\n")[0])
    assert answer.kind == suppression_pb2.BOUNCE_KIND_COMPLAINT
    welcome = await send(lab, wanted("welcome"))
    await becomes(lab, welcome.message_id, pb.MESSAGE_STATE_SUPPRESSED)
    security = await send(lab, wanted())
    await becomes(lab, security.message_id, pb.MESSAGE_STATE_SENT)
