"""The developer's mailbox: read by rpc, bounded, and nowhere but in development."""

import asyncio
from dataclasses import replace

import aiosmtplib
import grpc
import pytest

from services.chassis.config import BadSetting
from services.chassis.testing import Lab, reason
from services.notification import mailbox
from services.notification.app import build
from tests.notification.messages import MAILBOX, mails, notification, send, wanted
from tests.servers import Shared, free_port
from weft.notification.v1 import mailbox_pb2 as pb
from weft.notification.v1.mailbox_pb2_grpc import MailboxServiceStub


async def test_mail_is_watched_as_it_arrives_and_from_any_place(lab: Lab) -> None:
    stub = MailboxServiceStub(lab.channel)
    live = stub.WatchMail(pb.WatchMailRequest(recipient="BOB@example.com"))
    await live.wait_for_connection()
    await send(lab, wanted())
    await send(lab, wanted(address="bob@example.com"))
    async with asyncio.timeout(10):
        arrived = (await live.read()).mail
        assert list(arrived.recipients) == ["bob@example.com"]
        assert "K7Q4" in arrived.text
        await mails(lab, 2)
        replayed = stub.WatchMail(pb.WatchMailRequest(after_sequence=0))
        sequences = [(await replayed.read()).mail.sequence for _ in range(2)]
    assert sequences == sorted(sequences)
    live.cancel()
    replayed.cancel()


async def test_mail_is_listed_newest_first_for_one_recipient_and_cleared(lab: Lab) -> None:
    stub = MailboxServiceStub(lab.channel)
    for address in ("a@example.com", "b@example.com", "a@example.com"):
        await send(lab, wanted(address=address))
    await mails(lab, 3)
    listed = (await stub.ListMail(pb.ListMailRequest(recipient="A@example.com"))).mail
    assert [list(mail.recipients) for mail in listed] == [["a@example.com"]] * 2
    assert listed[0].sequence > listed[1].sequence
    assert not listed[0].text
    first = await stub.ListMail(pb.ListMailRequest(page_size=2))
    second = await stub.ListMail(pb.ListMailRequest(page_size=2, page_token=first.next_page_token))
    assert (len(first.mail), len(second.mail), second.next_page_token) == (2, 1, "")
    assert (await stub.ClearMail(pb.ClearMailRequest())).cleared == 3
    assert not (await stub.ListMail(pb.ListMailRequest())).mail


async def test_oldest_mail_leaves_a_full_mailbox(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAILS_MAX", 3)
    for n in range(5):
        await send(lab, wanted(address=f"{n}@example.com"))
        await _arrived(lab, f"{n}@example.com")
    listed = (await MailboxServiceStub(lab.channel).ListMail(pb.ListMailRequest())).mail
    assert [mail.recipients[0][0] for mail in listed] == ["4", "3", "2"]


async def _arrived(lab: Lab, recipient: str) -> None:
    watch = MailboxServiceStub(lab.channel).WatchMail(
        pb.WatchMailRequest(recipient=recipient, after_sequence=0)
    )
    async with asyncio.timeout(10):
        await watch.read()
    watch.cancel()


async def test_mail_that_is_too_big_is_refused_by_the_server(servers: Shared) -> None:
    port = free_port()
    async with notification(servers, mailbox_address=f"127.0.0.1:{port}") as lab:
        await send(lab)
        await mails(lab)
        huge = b"Subject: x\r\n\r\n" + b"x" * mailbox.MAIL_BYTES_MAX
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client:
            with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
                await client.sendmail("a@example.com", ["b@example.com"], huge)
        assert refused.value.code == 552
        assert len(await mails(lab)) == 1


async def test_anything_can_be_read_as_mail(lab: Lab) -> None:
    for source in (
        b"",
        b"\xff\xfe",
        b"Subject: =?no-such?b?////?=\r\n\r\n",
        b"Content-Type: text/plain; charset=x\r\n\r\n\xe9",
    ):
        read = mailbox.contents(source)
        assert read.subject.isprintable()


async def test_there_is_no_mailbox_outside_development(servers: Shared) -> None:
    async with notification(servers, relay=1) as lab:
        stub = MailboxServiceStub(lab.channel)
        for call in (
            stub.ListMail(pb.ListMailRequest()),
            stub.ClearMail(pb.ClearMailRequest()),
            stub.GetMail(pb.GetMailRequest(mail_id="01a1fc06-c2ac-72f7-9cca-ad02470461df")),
            stub.WatchMail(pb.WatchMailRequest()).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
            assert reason(refused.value) == "MAILBOX_OFF"


async def test_mailbox_in_production_or_on_the_network_is_refused_at_start(lab: Lab) -> None:
    tools = lab.hosted.tools["notification"]
    production = replace(tools, settings=replace(tools.settings, development=False, mesh_key="k" * 32))
    with pytest.raises(BadSetting, match="development"):
        build(production, MAILBOX)
    with pytest.raises(BadSetting, match="loopback"):
        build(tools, {**MAILBOX, "WEFT_NOTIFICATION_MAILBOX_ADDRESS": "0.0.0.0:2525"})
