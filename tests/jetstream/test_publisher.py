"""What a publisher confirmed is stored, once and in order; what it refuses harms nobody else."""

import asyncio
from pathlib import Path

import pytest

from services.chassis.jetstream import publisher as module
from services.chassis.jetstream.connection import Connection, answer
from services.chassis.jetstream.errors import NotStored, Overrun, ProtocolError, Refused, TooLarge
from services.chassis.jetstream.publisher import Item, Publisher, Stored
from services.chassis.jetstream.stream import Stream
from tests.chassis.waiting import until
from tests.jetstream.brokers import broker
from tests.jetstream.conftest import Connect, make_stream


async def stored(connection: Connection) -> list[bytes]:
    """All payloads of the stream, in order."""
    state = (await connection.api("STREAM.INFO.T"))["state"]
    stream = Stream(connection, "T")
    found = [await stream.get(n) for n in range(max(1, state["first_seq"]), state["last_seq"] + 1)]
    return [record.payload for record in found if record]


async def test_two_hundred_callers_share_batches_and_each_gets_its_sequence(
    connection: Connection, stream: str
) -> None:
    publisher = Publisher(connection)

    async def caller(number: int) -> list[tuple[int, bytes]]:
        payloads = [b"%d-%d" % (number, n) for n in range(10)]
        return [((await publisher.publish("t.a", each)).sequence, each) for each in payloads]

    told = [pair for pairs in await asyncio.gather(*map(caller, range(200))) for pair in pairs]
    assert sorted(sequence for sequence, _ in told) == list(range(1, 2001))
    assert [payload for _, payload in sorted(told)] == await stored(connection)
    assert publisher.batches < 100


async def test_many_are_stored_in_the_order_given(connection: Connection, stream: str) -> None:
    items = [Item("t.a", b"%d" % n) for n in range(2_345)]
    told = await Publisher(connection).publish_all(items)
    assert [one.sequence for one in told] == list(range(1, 2_346))
    assert await stored(connection) == [item.payload for item in items]


async def test_one_id_is_stored_once_also_within_a_batch(connection: Connection, stream: str) -> None:
    publisher = Publisher(connection)
    assert await publisher.publish("t.a", b"first", "id-1") == Stored(1, duplicate=False)
    items = [Item("t.a", b"%d" % n, f"id-{n}") for n in (2, 1, 3, 3)]
    told = await publisher.publish_all(items)
    assert [one.duplicate for one in told] == [False, True, False, True]
    assert [one.sequence for one in told] == [2, 1, 3, 3]
    assert await stored(connection) == [b"first", b"2", b"3"]


async def test_a_refused_message_fails_its_own_caller_only(connection: Connection, stream: str) -> None:
    publisher = Publisher(connection)
    wrong = {"Nats-Expected-Last-Sequence": "77"}
    outcomes = await asyncio.gather(
        publisher.publish("t.a", b"a"),
        publisher.publish("t.a", b"b", headers=wrong),
        publisher.publish("t.a", b"c"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [Stored, Refused, Stored]
    assert await stored(connection) == [b"a", b"c"]


async def test_what_cannot_be_sent_is_refused_before_it_joins_a_batch(
    connection: Connection, stream: str
) -> None:
    publisher = Publisher(connection)
    with pytest.raises(TooLarge):
        await publisher.publish("t.a", b"x" * 1_048_577)
    with pytest.raises(ProtocolError):
        await publisher.publish("t.a b", b"")
    with pytest.raises(ProtocolError):
        await publisher.publish("t.a", b"", "id\r\nX: y")
    assert await publisher.publish_all([]) == []
    await connection.flush()
    assert await stored(connection) == []


async def test_large_messages_go_in_several_batches(connection: Connection, stream: str) -> None:
    payload = b"x" * 900_000
    told = await Publisher(connection).publish_all([Item("t.a", payload) for _ in range(20)])
    assert [one.sequence for one in told] == list(range(1, 21))


async def test_more_than_may_wait_is_refused(
    connection: Connection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 10_000)
    publisher = Publisher(connection)
    first = asyncio.create_task(publisher.publish("t.a", b"x" * 9_000))
    await asyncio.sleep(0)
    outcomes = await asyncio.gather(
        *(publisher.publish("t.a", b"x" * 4_000) for _ in range(4)), return_exceptions=True
    )
    await first
    assert Overrun in map(type, outcomes)
    assert Stored in map(type, outcomes)
    assert (await publisher.publish("t.a", b"again")).sequence


async def test_a_stream_without_atomic_batches_is_served_one_by_one(connection: Connection) -> None:
    await make_stream(connection, allow_atomic=False)
    told = await Publisher(connection).publish_all([Item("t.a", b"%d" % n) for n in range(50)])
    assert sorted(one.sequence for one in told) == list(range(1, 51))


async def test_a_stream_that_is_not_there_is_told_when_patience_ends(connection: Connection) -> None:
    with pytest.raises(NotStored):
        await Publisher(connection, give_up_s=0.3).publish("nobody.listens", b"")


async def test_an_id_that_is_being_stored_is_asked_for_again(
    connection: Connection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [Refused(400, 10158, "duplicate message id is in process")]

    def heard(payload: bytes) -> object:
        if refusals:
            raise refusals.pop()
        return answer(payload)

    monkeypatch.setattr(module, "answer", heard)
    assert await Publisher(connection).publish("t.a", b"x", "same") == Stored(1, duplicate=True)


async def test_a_full_stream_refuses_and_does_not_wait(connection: Connection) -> None:
    await make_stream(connection, max_msgs=1, discard="new")
    publisher = Publisher(connection)
    await publisher.publish("t.a", b"1")
    with pytest.raises(Refused, match="maximum messages"):
        await publisher.publish("t.a", b"2")


async def test_a_caller_who_gave_up_waiting_harms_nobody(connection: Connection, stream: str) -> None:
    publisher = Publisher(connection)
    gone = asyncio.create_task(publisher.publish("t.a", b"gone"))
    await asyncio.sleep(0)
    gone.cancel()
    await publisher.publish("t.a", b"here")
    await publisher.close()
    assert await stored(connection) == [b"gone", b"here"]


async def test_nothing_confirmed_is_lost_and_nothing_is_stored_twice_when_the_server_is_killed(
    tmp_path: Path, connect: Connect
) -> None:
    server = broker(tmp_path / "nats")
    connection = await connect(server.url)
    await make_stream(connection)
    publisher, confirmed = Publisher(connection), list[bytes]()

    async def caller(number: int) -> None:
        for n in range(100):
            payload = b"%d-%d" % (number, n)
            await publisher.publish("t.a", payload, payload.decode())
            confirmed.append(payload)

    callers = asyncio.gather(*map(caller, range(40)))
    for enough in (600, 2_000, 3_000):
        await until(lambda enough=enough: len(confirmed) > enough)
        server.kill()
        server.start()
    await callers
    assert connection.connects == 4
    kept = await stored(connection)
    assert len(kept) == len(set(kept)) == 4_000
    assert set(confirmed) == set(kept)
    for number in range(40):
        own = [payload for payload in kept if payload.startswith(b"%d-" % number)]
        assert own == [b"%d-%d" % (number, n) for n in range(100)]
