"""What must hold when the dust has settled, asked for through the edge."""

from collections import Counter
from typing import Any

from tests.chaos.faults import eventually
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load, Metadata, channel_to
from weft.audit.v1 import audit_pb2, audit_pb2_grpc
from weft.identity.v1 import user_pb2, user_pb2_grpc
from weft.notification.v1 import mailbox_pb2, mailbox_pb2_grpc, notification_pb2, notification_pb2_grpc

CREATED = "weft.identity.v1.UserCreated"
PAGE = 200  # The largest.
BATCH = 100  # As many accounts as one call may ask for.


async def judge(load: Load) -> None:
    """Asserts all of it."""
    async with channel_to(load.mesh) as channel:
        ledger = load.ledger
        assert ledger.wrong == [], ledger.summary()
        assert ledger.users
        assert ledger.accepted
        users = user_pb2_grpc.UserServiceStub(channel)
        await _nothing_is_lost(users, ledger, load.admin)
        for user_id, count in ledger.counts.items():
            asked = user_pb2.GetPreferencesRequest(user_id=user_id)
            kept = await users.GetPreferences(asked, metadata=load.admin)
            assert kept.preferences["count"] == str(count)
        await _nothing_is_twice(channel, ledger, load.admin)
        await _mails_came(channel, ledger, load.admin)


async def _nothing_is_lost(users: Any, ledger: Ledger, admin: Metadata) -> None:
    known = sorted(ledger.users)
    for first in range(0, len(known), BATCH):
        request = user_pb2.BatchGetUsersRequest(user_ids=known[first : first + BATCH])
        found = (await users.BatchGetUsers(request, metadata=admin)).users
        assert {user.user_id: user.email for user in found} == {
            user_id: ledger.users[user_id] for user_id in request.user_ids
        }


async def _nothing_is_twice(channel: Any, ledger: Ledger, admin: Metadata) -> None:
    """Each account has one UserCreated in the trail, no event has two entries, the chain is whole."""
    audit = audit_pb2_grpc.AuditServiceStub(channel)

    async def created() -> Counter[str]:
        entries = await _entries(audit, f'type = "{CREATED}"', admin)
        return Counter(entry.subject_id for entry in entries)

    async def complete() -> bool:
        return ledger.users.keys() <= (await created()).keys()

    await eventually("the trail has every acknowledged account", complete)
    counts = await created()
    assert {user_id: count for user_id, count in counts.items() if count > 1} == {}
    everything = await _entries(audit, "", admin)
    twice = Counter(entry.event_id for entry in everything)
    assert [event_id for event_id, count in twice.items() if count > 1] == []
    assert [entry.sequence for entry in everything] == list(range(1, len(everything) + 1))
    verdict = await audit.VerifyChain(audit_pb2.VerifyChainRequest(), metadata=admin)
    assert verdict.intact, verdict
    assert verdict.entries >= len(everything)


async def _entries(audit: Any, filter_: str, admin: Metadata) -> list[audit_pb2.Entry]:
    found, token = [], ""
    while True:
        request = audit_pb2.ListEntriesRequest(
            page_size=PAGE, page_token=token, filter=filter_, order_by="sequence"
        )
        page = await audit.ListEntries(request, metadata=admin)
        found += page.entries
        token = page.next_page_token
        if not token:
            return found


async def _mails_came(channel: Any, ledger: Ledger, admin: Metadata) -> None:
    """Each accepted registration led to one message, and it to at least one mail, at most one per attempt."""
    mailbox = mailbox_pb2_grpc.MailboxServiceStub(channel)

    async def complete() -> bool:
        return ledger.accepted <= {mail.recipients[0] for mail in await _mails(mailbox)}

    await eventually("every accepted registration has its mail", complete)
    notification = notification_pb2_grpc.NotificationServiceStub(channel)
    messages = [
        each for each in await _messages(notification, admin) if each.recipient.address in ledger.asked
    ]
    assert {m.recipient.address: 1 for m in messages} == Counter(m.recipient.address for m in messages)
    attempts = {message.recipient.address: message.attempts for message in messages}
    mails = Counter(
        mail.recipients[0] for mail in await _mails(mailbox) if mail.recipients[0] in ledger.asked
    )
    assert {
        address: (count, attempts[address]) for address, count in mails.items() if count > attempts[address]
    } == {}


async def _mails(mailbox: Any) -> list[mailbox_pb2.Mail]:
    found, token = [], ""
    while True:
        page = await mailbox.ListMail(mailbox_pb2.ListMailRequest(page_size=PAGE, page_token=token))
        found += page.mail
        token = page.next_page_token
        if not token:
            return found


async def _messages(notification: Any, admin: Metadata) -> list[notification_pb2.Message]:
    found, token = [], ""
    while True:
        request = notification_pb2.ListMessagesRequest(page_size=PAGE, page_token=token)
        page = await notification.ListMessages(request, metadata=admin)
        found += page.messages
        token = page.next_page_token
        if not token:
            return found
