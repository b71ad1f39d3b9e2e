"""A connection to a NATS account of the test's own, and a stream there."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.protocol import Message
from services.chassis.jetstream.servers import Options
from tests.jetstream import brokers

Connect = Callable[..., Awaitable[Connection]]


@pytest.fixture(autouse=True)
def no_broker_stays() -> Iterator[None]:
    """Servers of a test's own end with it."""
    yield
    brokers.end_all()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections that end with the test."""
    opened: list[Connection] = []

    async def open_one(url: str, **options: object) -> Connection:
        connection = Connection(Options.of(url, **options))
        await connection.open()
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        await connection.close()


@pytest.fixture
async def connection(connect: Connect, nats_url: str) -> Connection:
    return await connect(nats_url)


@pytest.fixture
async def stream(connection: Connection) -> str:
    """The name of a stream of all subjects `t.>`, with a consumer `c` of all of them."""
    return await make_stream(connection)


async def make_stream(connection: Connection, replicas: int = 1, **changes: object) -> str:
    config = {
        "name": "T",
        "subjects": ["t.>"],
        "allow_atomic": True,
        "allow_direct": True,
        "num_replicas": replicas,
        **changes,
    }
    await connection.api("STREAM.CREATE.T", config)
    await make_consumer(connection, "c")
    return "T"


async def make_consumer(connection: Connection, name: str, **changes: object) -> None:
    config = {"durable_name": name, "ack_policy": "explicit", "max_ack_pending": 100_000, **changes}
    await connection.api(f"CONSUMER.CREATE.T.{name}", {"stream_name": "T", "config": config})


async def echo(connection: Connection, payload: bytes) -> bytes:
    """The payload, from a subscriber and back."""

    def answer(messages: list[Message]) -> None:
        for message in messages:
            connection.publish(message.reply.decode(), message.payload)

    serving = connection.subscribe("echo", answer)
    said = (await connection.request("echo", payload)).payload
    serving.end()
    return said
