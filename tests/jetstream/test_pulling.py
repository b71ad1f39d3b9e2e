"""A pull takes what there is room for, everything once, and goes on after whatever happens to its server."""

import asyncio
from pathlib import Path

import pytest

from services.chassis.jetstream import acks, pulling
from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import ProtocolError
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.publisher import Item, Publisher
from services.chassis.jetstream.pulling import Delivery, Pull, delivery
from services.chassis.jetstream.stream import Stream
from tests.chassis.waiting import until
from tests.jetstream.brokers import broker
from tests.jetstream.conftest import Connect, make_consumer, make_stream


class Taken:
    """What a pull delivered."""

    def __init__(self, connection: Connection, room: int = 100, consumer: str = "c") -> None:
        self.all: list[Delivery] = []
        self.pull = Pull(connection, "T", consumer, self.all.extend, room)
        self.pull.start()

    def replies(self) -> list[bytes]:
        return [each.reply for each in self.all]


async def fill(connection: Connection, count: int) -> None:
    await Publisher(connection).publish_all([Item("t.a", b"%d" % n) for n in range(count)])


async def info(connection: Connection, consumer: str = "c") -> dict[str, int]:
    said = await connection.api(f"CONSUMER.INFO.T.{consumer}")
    return {name: said[name] for name in ("num_pending", "num_ack_pending", "num_redelivered")}


async def test_a_message_says_where_it_stands(connection: Connection, stream: str) -> None:
    await fill(connection, 3)
    taken = Taken(connection)
    await until(lambda: len(taken.all) == 3)
    first = taken.all[0]
    assert (first.subject, first.payload, first.deliveries, first.sequence) == (b"t.a", b"0", 1, 1)
    assert [each.pending for each in taken.all] == [2, 1, 0]
    record = await Stream(connection, "T").get(1)
    assert record
    assert record.at.startswith("20")
    assert first.at_ns > 1_700_000_000 * 10**9
    acks.send(connection, [first.reply], acks.NAK)
    await until(lambda: len(taken.all) == 4)
    assert (taken.all[3].sequence, taken.all[3].deliveries) == (1, 2)
    await taken.pull.stop()


async def test_no_more_is_taken_than_there_is_room_for(connection: Connection, stream: str) -> None:
    await fill(connection, 500)
    taken = Taken(connection, room=100)
    await until(lambda: len(taken.all) == 100)
    await connection.flush()
    assert (await info(connection))["num_ack_pending"] == 100
    taken.pull.done(30)
    await connection.flush()
    assert len(taken.all) == 100, "less than half of the room is free"
    taken.pull.done(30)
    await until(lambda: len(taken.all) == 160)
    taken.pull.resize(0)
    taken.pull.done(100)
    await connection.flush()
    assert len(taken.all) == 160
    taken.pull.resize(1_000)
    await until(lambda: len(taken.all) == 500)
    assert [each.sequence for each in taken.all] == list(range(1, 501))
    await taken.pull.stop()


async def test_a_request_is_limited_in_bytes_and_followed_by_the_next(
    connection: Connection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "BYTES_MAX", 1_200_000)
    await Publisher(connection).publish_all([Item("t.a", b"x" * 500_000) for _ in range(9)])
    taken = Taken(connection)
    await until(lambda: len(taken.all) == 9)
    assert [each.sequence for each in taken.all] == list(range(1, 10))
    assert taken.pull._owed <= 100
    await taken.pull.stop()


async def test_acknowledgements_are_confirmed_in_bulk_also_twice(connection: Connection, stream: str) -> None:
    await fill(connection, 5_000)
    taken = Taken(connection, room=5_000)
    await until(lambda: len(taken.all) == 5_000)
    await acks.confirm(connection, taken.replies())
    assert await info(connection) == {"num_pending": 0, "num_ack_pending": 0, "num_redelivered": 0}
    await acks.confirm(connection, taken.replies())
    await acks.confirm(connection, [])
    await taken.pull.stop()


async def test_a_confirmation_waits_for_every_message(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "ANSWER_S_MAX", 0.05)
    monkeypatch.setattr(acks, "CONFIRM_S_MAX", 0.4)

    def answer(messages: list[Message]) -> None:
        for message in messages:
            connection.publish(message.reply.decode(), b"")

    connection.subscribe("heard.*", answer)
    connection.subscribe("deaf", lambda messages: None)
    await acks.confirm(connection, [b"heard.1", b"heard.2"])
    with pytest.raises(TimeoutError):
        await acks.confirm(connection, [b"heard.1", b"deaf"])


async def test_a_message_comes_again_later_not_at_all_or_stays_as_it_is_told(connection: Connection) -> None:
    await make_stream(connection)
    await make_consumer(connection, "quick", ack_wait=1_000_000_000)
    await fill(connection, 3)
    taken = Taken(connection, consumer="quick")
    await until(lambda: len(taken.all) == 3)
    later, never, working = taken.replies()
    acks.send(connection, [later], acks.nak_after(0.2))
    acks.send(connection, [never], acks.term("nobody\r\nwants it"))
    for _ in range(5):
        await asyncio.sleep(0.3)  # Time itself is under test: longer than the consumer waits.
        acks.send(connection, [working], acks.PROGRESS)
    again = [(each.sequence, each.deliveries) for each in taken.all[3:]]
    assert again[0] == (1, 2)
    assert {sequence for sequence, _ in again} == {1}
    await taken.pull.stop()


async def test_what_was_under_way_when_interest_ended_is_handed_on(connection: Connection) -> None:
    came: list[Message] = []
    subscription = connection.subscribe("own.*", came.extend)
    for n in range(500):
        connection.publish(f"own.{n}", b"x")
    await connection.finish(subscription)
    assert len(came) == 500


async def test_a_stopped_pull_has_handed_on_all_that_it_holds(connection: Connection, stream: str) -> None:
    await fill(connection, 2_000)
    taken = Taken(connection, room=1_000)
    await until(lambda: len(taken.all) == 1_000)
    await taken.pull.stop()
    taken.pull.done(1_000)
    await connection.flush()
    assert (await info(connection))["num_ack_pending"] == len(taken.all) == 1_000


async def test_a_pull_goes_on_when_its_server_was_killed(tmp_path: Path, connect: Connect) -> None:
    server = broker(tmp_path / "nats")
    connection = await connect(server.url)
    await make_stream(connection)
    await fill(connection, 300)
    done: set[int] = set()

    def take(came: list[Delivery]) -> None:
        confirming.append(asyncio.create_task(finish(came)))

    async def finish(came: list[Delivery]) -> None:
        await acks.confirm(connection, [each.reply for each in came])
        done.update(each.sequence for each in came)
        pull.done(len(came))

    confirming: list[asyncio.Task[None]] = []
    pull = Pull(connection, "T", "c", take, room=50)
    pull.start()
    await until(lambda: len(done) >= 100)
    server.kill()
    server.start()
    await until(lambda: len(done) == 300)
    await fill(connection, 10)
    await until(lambda: len(done) == 310)
    await asyncio.gather(*confirming)
    await pull.stop()


async def test_requests_that_were_forgotten_are_made_again(
    connection: Connection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(pulling, "LOST_S", 0.3)
    taken = Taken(connection)
    await connection.flush()
    interest = taken.pull._subscription
    assert interest
    # As a leader that died: what was asked of it is gone, and nobody says so.
    connection.write(b"UNSUB %b\r\n" % interest.sid)
    await fill(connection, 5)
    connection.write(b"SUB %b %b\r\n" % (interest.subject, interest.sid))
    await connection.flush()
    assert taken.all == []
    await until(lambda: len(taken.all) == 5)
    await taken.pull.stop()


async def test_a_deleted_consumer_is_noticed(connection: Connection, stream: str) -> None:
    taken = Taken(connection)
    await connection.flush()
    await connection.api("CONSUMER.DELETE.T.c")
    await until(lambda: taken.pull.gone)
    await taken.pull.stop()


def test_ack_subjects_of_both_kinds_are_understood() -> None:
    short = Message(b"a", b"$JS.ACK.S.C.3.44.5.1700000000000000000.7", b"", b"")
    long = Message(b"a", b"$JS.ACK.hub.ACC.S.C.3.44.5.1700000000000000000.7.rnd", b"", b"")
    for message in (short, long):
        came = delivery(message)
        assert came[4:] == (3, 44, 5, 1_700_000_000 * 10**9, 7)


@pytest.mark.parametrize("reply", [b"", b"_INBOX.a", b"$JS.ACK.S.C.3.x.5.1.7", b"a.b.c.d.e.f.g.h.i.j"])
def test_other_replies_are_no_ack_subjects(reply: bytes) -> None:
    with pytest.raises(ProtocolError):
        delivery(Message(b"a", reply, b"", b""))
