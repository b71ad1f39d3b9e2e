"""From SendMessage to the mailbox, over JetStream and SMTP."""

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from services.chassis.clock import uuid7
from services.chassis.testing import Lab, broken_fields, reason, until
from tests.notification import messages
from tests.notification.messages import becomes, events, get, mails, notification, send, wanted
from tests.servers import Shared
from weft.notification.v1 import notification_pb2 as pb
from weft.notification.v1.notification_pb2_grpc import NotificationServiceStub


async def test_message_arrives_as_a_mail_in_the_reader_s_language(lab: Lab) -> None:
    request = wanted(locale="ru-RU", address="ada@example.com")
    accepted = await send(lab, request)
    assert accepted.state in (pb.MESSAGE_STATE_QUEUED, pb.MESSAGE_STATE_SENDING, pb.MESSAGE_STATE_SENT)
    [mail] = await mails(lab)
    assert mail.subject == "Подтвердите адрес электронной почты"
    assert list(mail.recipients) == ["ada@example.com"]
    assert list(mail.links) == [messages.LINK]
    assert "Здравствуйте, Ada!" in mail.text
    assert "<bdi>Ada</bdi>" in mail.html
    sent = await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    assert [(attempt.number, attempt.code, attempt.status) for attempt in sent.attempts] == [
        (1, 250, "2.0.0")
    ]
    assert sent.message.sent_time.seconds
    assert not sent.message.HasField("next_attempt_time")
    assert await events(lab) == ["MessageAccepted", "MessageSent"]


async def test_mail_is_mime_as_the_standards_have_it(lab: Lab) -> None:
    accepted = await send(lab, wanted(locale="ru"))
    [mail] = await mails(lab)
    assert b"\r\n" in mail.source
    assert max(map(len, mail.source.split(b"\r\n"))) <= 998
    assert mail.source.isascii()
    parsed = email.message_from_bytes(mail.source, policy=email.policy.default)
    assert not parsed.defects
    assert parsed.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in parsed.iter_parts()] == ["text/plain", "text/html"]
    assert parsed["Message-ID"].startswith(f"<{accepted.message_id}.")
    assert parsed["Date"].datetime - datetime.now(UTC) < timedelta(minutes=1)
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed["List-Unsubscribe"] is None
    headers = mail.source.split(b"\r\n\r\n")[0]
    [subject] = re.findall(rb"(?s)^Subject: .*?(?=\r\n\S)", headers, re.MULTILINE)
    assert all(len(line) <= 76 for line in subject.split(b"\r\n"))  # RFC 2047 §2


async def test_address_with_letters_of_the_world_gets_its_mail(lab: Lab) -> None:
    await send(lab, wanted(address="дмитрий@пример.рф"))
    [mail] = await mails(lab)
    assert list(mail.recipients) == ["дмитрий@xn--e1afmkfd.xn--p1ai"]
    assert "To: дмитрий@xn--e1afmkfd.xn--p1ai\r\n".encode() in mail.source


async def test_address_that_an_account_may_have_gets_its_mail_in_a_test_domain_too(lab: Lab) -> None:
    message = await send(lab, wanted(address="ada@weft.test"))
    await becomes(lab, message.message_id, pb.MESSAGE_STATE_SENT)


async def test_same_id_and_content_is_one_message(lab: Lab) -> None:
    request = wanted()
    first, second = await send(lab, request), await send(lab, request)
    assert first.message_id == second.message_id
    await becomes(lab, first.message_id, pb.MESSAGE_STATE_SENT)
    third = await send(lab, request)
    assert third.state == pb.MESSAGE_STATE_SENT
    assert len(await mails(lab)) == 1
    assert (await events(lab)).count("MessageAccepted") == 1


async def test_same_id_with_other_content_is_refused(lab: Lab) -> None:
    request = wanted()
    await send(lab, request)
    request.values["code"] = "OTHER"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await send(lab, request)
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert reason(refused.value) == "MESSAGE_ID_REUSED"


@pytest.mark.parametrize(
    ("change", "code", "why", "field"),
    [
        ({"template": "no_such"}, "NOT_FOUND", "UNKNOWN_TEMPLATE", ""),
        ({"values": {}}, "INVALID_ARGUMENT", "MISSING_VALUE", "values['link']"),
        ({"values": {"link": "javascript:alert(1)"}}, "INVALID_ARGUMENT", "BAD_VALUE", "values['link']"),
        ({"address": "nobody"}, "INVALID_ARGUMENT", "BAD_ADDRESS", "recipient.address"),
        ({"address": "a@example.com\r\nBcc: b@example.com"}, "INVALID_ARGUMENT", "BAD_ADDRESS", ""),
    ],
)
async def test_message_that_cannot_be_made_is_refused_at_once(
    lab: Lab, change: dict[str, object], code: str, why: str, field: str
) -> None:
    request = wanted()
    if "address" in change:
        request.recipient.address = str(change["address"])
    if "template" in change:
        request.template = str(change["template"])
    if isinstance(change.get("values"), dict):
        request.ClearField("values")
        request.values.update(change["values"])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await send(lab, request)
    assert (refused.value.code().name, reason(refused.value)) == (code, why)
    assert field in "".join(broken_fields(refused.value))
    assert await events(lab) == []


async def test_only_the_mesh_may_send(lab: Lab) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await NotificationServiceStub(lab.channel).SendMessage(wanted(), metadata=lab.bearer())
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_values_are_sealed_at_once_and_erased_when_the_message_is_settled(
    servers: Shared,
) -> None:
    async with notification(servers, values_kept_s="0") as lab:
        await lab.db("notification").execute("create table seen (sealed bytea)")
        await lab.db("notification").execute(
            "create function spy() returns trigger language plpgsql as "
            "'begin insert into seen values (new.sealed_values); return new; end'"
        )
        spying = "create trigger spy after insert on message for each row execute function spy()"
        await lab.db("notification").execute(spying)
        accepted = await send(lab)
        await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
        sealed = await lab.db("notification").fetchval("select sealed from seen")
        assert sealed
        assert b"K7Q4" not in sealed
        [row] = await lab.db("notification").fetch("select sealed_values, erase_at from message")
        assert (row["sealed_values"], row["erase_at"]) == (None, None)


async def test_what_a_sender_announces_names_what_led_to_it(lab: Lab) -> None:
    accepted = await send(lab)
    await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    fields = "id, actor, trace, causation"
    first, second = await lab.db("notification").fetch(f"select {fields} from event order by position")
    assert first["actor"] == "service:identity"
    assert second["actor"] == "service:notification"
    assert second["causation"] == first["id"]
    assert second["trace"] == first["trace"] != ""


async def test_events_hold_neither_address_nor_values(lab: Lab) -> None:
    accepted = await send(lab)
    await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    for row in await lab.db("notification").fetch("select payload from event"):
        assert b"ada@" not in row["payload"]
        assert b"K7Q4" not in row["payload"]


async def test_sent_message_is_sent_once_more_as_a_new_one(lab: Lab) -> None:
    stub, accepted = NotificationServiceStub(lab.channel), await send(lab)
    await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    request = pb.ResendMessageRequest(message_id=accepted.message_id, new_message_id=str(uuid7()))
    first = await stub.ResendMessage(request, metadata=lab.bearer())
    again = await stub.ResendMessage(request, metadata=lab.bearer())
    assert first.message.message_id == again.message.message_id == request.new_message_id
    newest, oldest = await mails(lab, 2)
    assert newest.text == oldest.text
    assert newest.message_id_header != oldest.message_id_header


async def test_messages_are_listed_by_user_state_and_time_a_page_at_a_time(lab: Lab) -> None:
    user_id = str(uuid7())
    ids = [(await send(lab, wanted(user_id=user_id))).message_id for _ in range(5)]
    await send(lab)
    for message_id in ids:
        await becomes(lab, message_id, pb.MESSAGE_STATE_SENT)
    stub = NotificationServiceStub(lab.channel)
    condition = f'user_id = "{user_id}" AND state = SENT AND create_time > "2020-01-01T00:00:00Z"'
    request, seen = pb.ListMessagesRequest(page_size=2, filter=condition), []
    while True:
        answer = await stub.ListMessages(request, metadata=lab.bearer())
        seen += [message.message_id for message in answer.messages]
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert seen == ids[::-1]
    request = pb.ListMessagesRequest(filter='template = "welcome"')
    assert not (await stub.ListMessages(request, metadata=lab.bearer())).messages


async def test_watching_shows_a_message_on_its_way(lab: Lab) -> None:
    user_id = str(uuid7())
    stub = NotificationServiceStub(lab.channel)
    watch = stub.WatchMessages(pb.WatchMessagesRequest(user_id=user_id), metadata=lab.bearer())
    await watch.wait_for_connection()
    states = []

    async def shown() -> bool:
        states.append((await watch.read()).message.state)
        return states[-1] == pb.MESSAGE_STATE_SENT

    await send(lab)
    await send(lab, wanted(user_id=user_id))
    await until(shown)
    watch.cancel()
    assert states == sorted(states)


async def test_message_of_no_attempt_yet_is_called_back(servers: Shared) -> None:
    quiet = _quiet_now()
    async with notification(servers, quiet_hours=quiet) as lab:
        stub, accepted = NotificationServiceStub(lab.channel), await send(lab, wanted("welcome"))
        request = pb.CancelMessageRequest(message_id=accepted.message_id)
        assert (await get(lab, accepted.message_id)).message.state == pb.MESSAGE_STATE_QUEUED
        for _ in range(2):
            answer = await stub.CancelMessage(request, metadata=lab.bearer())
            assert answer.message.state == pb.MESSAGE_STATE_CANCELLED
        assert await events(lab) == ["MessageAccepted", "MessageCancelled"]
        security = await send(lab)
        await becomes(lab, security.message_id, pb.MESSAGE_STATE_SENT)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            request = pb.CancelMessageRequest(message_id=security.message_id)
            await stub.CancelMessage(request, metadata=lab.bearer())
        assert reason(refused.value) == "NOT_CANCELLABLE"


def _quiet_now() -> str:
    now = datetime.now(UTC)
    return f"{now - timedelta(hours=2):%H:%M}-{now + timedelta(hours=2):%H:%M}"
