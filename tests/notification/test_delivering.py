"""Attempts: what a relay's answers mean, and that nothing accepted is lost, whoever dies when."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.clock import FakeClock
from services.chassis.testing import Lab, until
from tests.notification.messages import SWIFT, becomes, events, get, notification, send, wanted
from tests.notification.relay import Relay, relay
from tests.servers import Shared, free_port
from weft.notification.v1 import notification_pb2 as pb
from weft.notification.v1.events_pb2 import MessageDue

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def there() -> AsyncIterator[Relay]:
    async with relay() as made:
        yield made


@pytest.fixture
async def lab(servers: Shared, there: Relay) -> AsyncIterator[Lab]:
    async with notification(servers, relay=there.port) as lab:
        yield lab


async def test_what_may_pass_is_tried_again_and_then_sent_once(lab: Lab, there: Relay) -> None:
    there.recipients = ["451 4.7.1 greylisted, come back", "450 4.2.2 mailbox full"]
    there.mails = ["451 4.3.0 later"]
    accepted = await send(lab)
    sent = await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    assert [made.code for made in sent.attempts] == [451, 450, 451, 250]
    assert [made.status for made in sent.attempts] == ["4.7.1", "4.2.2", "4.3.0", "2.0.0"]
    assert len(there.taken) == 1
    deferred = ["MessageDeferred", "MessageDue"] * 3
    assert await events(lab) == ["MessageAccepted", *deferred, "MessageSent"]


async def test_attempts_are_bounded(servers: Shared, there: Relay) -> None:
    there.recipients = ["451 4.7.1 never"] * 10
    async with notification(servers, relay=there.port, attempts_max="3") as lab:
        accepted = await send(lab)
        failed = await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_FAILED)
    assert len(failed.attempts) == 3
    assert not there.taken


async def test_address_that_is_gone_fails_at_once_and_gets_nothing_more(lab: Lab, there: Relay) -> None:
    there.recipients = ["550 5.1.1 no such user"]
    first = await send(lab, wanted(address="gone@example.com"))
    failed = await becomes(lab, first.message_id, pb.MESSAGE_STATE_FAILED)
    assert [made.code for made in failed.attempts] == [550]
    second = await send(lab, wanted(address="Gone@Example.com"))
    suppressed = await becomes(lab, second.message_id, pb.MESSAGE_STATE_SUPPRESSED)
    assert not suppressed.attempts
    assert not there.taken
    assert (await events(lab))[-3:] == ["AddressSuppressed", "MessageAccepted", "MessageSuppressed"]


@pytest.mark.parametrize(
    "answer", ["552 5.2.2 mailbox full", "550 5.7.1 blocked by policy", "552 5.3.4 too big"]
)
async def test_mail_that_is_refused_fails_but_its_address_lives(lab: Lab, there: Relay, answer: str) -> None:
    there.mails = [answer]
    first = await send(lab)
    await becomes(lab, first.message_id, pb.MESSAGE_STATE_FAILED)
    second = await send(lab)
    await becomes(lab, second.message_id, pb.MESSAGE_STATE_SENT)


async def test_connection_serves_many_mails(lab: Lab, there: Relay) -> None:
    for _ in range(5):
        accepted = await send(lab)
        await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    assert (len(there.taken), there.sessions) == (5, 1)


async def test_relay_that_is_away_holds_messages_up_and_loses_none(servers: Shared) -> None:
    port = free_port()
    async with notification(servers, relay=port, retry_max_s="0.2") as lab:
        ids = [(await send(lab)).message_id for _ in range(5)]

        async def tried() -> bool:
            found = [await get(lab, message_id) for message_id in ids]
            return all(answer.attempts and answer.attempts[-1].HasField("end_time") for answer in found)

        await until(tried)
        async with relay(port) as back:
            for message_id in ids:
                await becomes(lab, message_id, pb.MESSAGE_STATE_SENT)
        assert len(set(back.ids())) == len(back.ids()) == 5


async def test_sixty_messages_at_once_are_each_sent_once(lab: Lab, there: Relay) -> None:
    accepted = await asyncio.gather(*(send(lab) for _ in range(60)))
    for message in accepted:
        await becomes(lab, message.message_id, pb.MESSAGE_STATE_SENT)
    assert len(there.taken) == len(set(there.ids())) == 60


async def test_message_in_hand_is_not_taken_by_another_sender(lab: Lab, there: Relay) -> None:
    there.held = asyncio.Event()
    accepted = await send(lab)
    await until(lambda: _attempts(lab, accepted.message_id))
    for _ in range(5):
        await lab.announce(MessageDue(message_id=accepted.message_id))

    async def only_one_in_hand() -> bool:
        [sender] = await lab.bus.js.consumers_info("notification")
        return not sender.num_pending and sender.num_ack_pending == 1

    await until(only_one_in_hand)
    there.held.set()
    sent = await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
    assert (len(there.taken), len(sent.attempts)) == (1, 1)


async def _attempts(lab: Lab, message_id: str) -> int:
    return len((await get(lab, message_id)).attempts)


async def test_values_are_erased_when_their_time_has_come(servers: Shared, there: Relay) -> None:
    clock = FakeClock()
    async with notification(servers, clock, relay=there.port) as lab:
        accepted = await send(lab)
        sent = await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
        erase_at = sent.message.values_erase_time.ToDatetime() - sent.message.sent_time.ToDatetime()
        assert erase_at == timedelta(hours=1)
        held = "select sealed_values is not null from message"
        assert await lab.db("notification").fetchval(held)
        clock.advance(3601)

        async def erased() -> bool:
            return not await lab.db("notification").fetchval(held)

        await until(erased)


def serve(lab: Lab, port: int) -> subprocess.Popen[bytes]:
    """The service in a process of its own, beside the lab's, with the relay at `port`."""
    environ = {
        **os.environ,
        **SWIFT,
        **{f"WEFT_NOTIFICATION_{name.upper()}": value for name, value in PATIENT.items()},
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        "WEFT_DEVELOPMENT": "1",
        "WEFT_DATABASE_URL": lab.settings.database_url,
        "WEFT_NATS_URL": lab.settings.nats_url,
        "WEFT_ADDRESS": "127.0.0.1:0",
        "WEFT_METRICS_ADDRESS": "",
        "WEFT_NOTIFICATION_SMTP_PORT": str(port),
    }
    return subprocess.Popen([sys.executable, "-m", "services", "notification"], env=environ, cwd=ROOT)


PATIENT = {"attempts_max": "10000", "lease_s": "2", "smtp_timeout_s": "1"}


async def test_sender_killed_between_acceptance_and_its_record_loses_nothing(
    servers: Shared, there: Relay
) -> None:
    """And repeats within the documented bound: one mail an attempt, all with the same Message-ID."""
    nowhere = free_port()
    async with notification(servers, relay=nowhere, **PATIENT) as lab:
        accepted = await send(lab)
        process = serve(lab, there.port)
        there.before_answer = process.kill
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
        async with relay(nowhere) as second:
            sent = await becomes(lab, accepted.message_id, pb.MESSAGE_STATE_SENT)
            assert len(second.taken) == 1
        killed = [made for made in sent.attempts if not made.HasField("end_time")]
        assert (len(there.taken), len(killed)) == (1, 1)
        assert there.ids() == second.ids()
        assert there.taken[0].original_content == second.taken[0].original_content
