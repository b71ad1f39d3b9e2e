"""Opting out (RFC 8058): one click by POST, never by GET, never from security messages."""

import email
import email.policy

import grpc
import pytest
from google.api import httpbody_pb2

from services.chassis.testing import Lab, reason
from tests.notification.messages import becomes, events, mails, send, wanted
from weft.notification.v1 import notification_pb2 as pb, suppression_pb2
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub


async def token(lab: Lab) -> str:
    """Of a mail that may be unsubscribed from."""
    await send(lab, wanted("welcome", locale="ru"))
    [mail] = await mails(lab)
    parsed = email.message_from_bytes(mail.source, policy=email.policy.default)
    assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = parsed["List-Unsubscribe"].strip("<>")
    assert link in mail.text
    assert link.startswith(f"{lab.settings.edge_url}/v1/unsubscribe/")
    return str(link.rpartition("/")[2])


async def test_click_opts_out_once_and_only_of_what_is_not_security(lab: Lab) -> None:
    stub = NotificationServiceStub(lab.channel)
    form = httpbody_pb2.HttpBody(
        content_type="application/x-www-form-urlencoded", data=b"List-Unsubscribe=One-Click"
    )
    request = suppression_pb2.UnsubscribeRequest(token=await token(lab), form=form)
    for _ in range(2):
        page = (await stub.Unsubscribe(request)).page
        assert page.content_type == "text/html; charset=utf-8"
        assert "Готово" in page.data.decode()
    assert (await events(lab)).count("ReaderOptedOut") == 1
    welcome, security = await send(lab, wanted("welcome")), await send(lab, wanted())
    await becomes(lab, welcome.message_id, pb.MESSAGE_STATE_SUPPRESSED)
    await becomes(lab, security.message_id, pb.MESSAGE_STATE_SENT)


async def test_following_the_link_changes_nothing(lab: Lab) -> None:
    stub, request = NotificationServiceStub(lab.channel), suppression_pb2.GetUnsubscribePageRequest()
    request.token = await token(lab)
    page = (await stub.GetUnsubscribePage(request)).page
    assert b'<form method="post">' in page.data
    welcome = await send(lab, wanted("welcome"))
    await becomes(lab, welcome.message_id, pb.MESSAGE_STATE_SENT)


async def test_link_that_we_did_not_make_is_refused(lab: Lab) -> None:
    stub, real = NotificationServiceStub(lab.channel), await token(lab)
    for forged in ("x", "AAAA", real[:-4] + "AAAA", "B" + real[1:], real + "A"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Unsubscribe(suppression_pb2.UnsubscribeRequest(token=forged))
        assert reason(refused.value) == "UNKNOWN_SUBSCRIPTION"
    assert "ReaderOptedOut" not in await events(lab)
