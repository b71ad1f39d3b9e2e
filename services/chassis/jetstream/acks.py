"""Acknowledgements: many in one write, and confirmed together where it matters.

Anyone may acknowledge by a message's ack subject, also for a worker that is no more.
"""

import asyncio
from collections.abc import Sequence

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import Disconnected, NoResponders
from services.chassis.jetstream.pulling import ACK_TOKENS

ACK, NAK, PROGRESS, TERM = b"+ACK", b"-NAK", b"+WPI", b"+TERM"
CONFIRM_MAX = 2_000  # Acknowledged together: more in one write, and others wait for the connection.
ANSWER_S_MAX = 2.0  # A confirmation that has not come by then is lost, and to ask again costs little.
CONFIRM_S_MAX = 30.0  # Then the caller decides; the messages may come again.
REASON_CHARS_MAX = 500  # Of why a message is given up; advisories carry it.
RETRY_S = 0.05


def nak_after(delay_s: float) -> bytes:
    """Not now, but again in `delay_s`. Until then it counts as being worked on."""
    return b'-NAK {"delay": %d}' % int(delay_s * 1e9)


def term(reason: str) -> bytes:
    """Never again."""
    return b"+TERM %b" % " ".join(reason[:REASON_CHARS_MAX].split()).encode()


def send(connection: Connection, replies: Sequence[bytes], word: bytes = ACK) -> None:
    """Says `word` of each message, and does not wait. Raises Disconnected or Overrun."""
    tail = b" %d\r\n%b\r\n" % (len(word), word)
    connection.write(b"PUB " + (tail + b"PUB ").join(replies) + tail if replies else b"")


async def confirm(connection: Connection, replies: Sequence[bytes], word: bytes = ACK) -> None:
    """Says `word` of each, and returns when the server has heard it of all; outages are waited out.

    A consumer takes in order what one connection says, so it is asked to confirm the last only: that spares
    the server, and us, a message for each. To say it twice does no harm. Raises TimeoutError after
    CONFIRM_S_MAX.
    """
    async with asyncio.timeout(CONFIRM_S_MAX):
        for first in range(0, len(replies), CONFIRM_MAX):
            await _confirm(connection, replies[first : first + CONFIRM_MAX], word)


async def _confirm(connection: Connection, replies: Sequence[bytes], word: bytes) -> None:
    ends = _lasts(replies)
    asked = [replies[n] for n in ends]
    plain = b" %d\r\n%b\r\n" % (len(word), word)
    left = [reply for n, reply in enumerate(replies) if n not in ends]
    said = b"PUB " + (plain + b"PUB ").join(left) + plain if left else b""

    def commands(inbox: bytes) -> bytes:
        return said + b"".join([b"PUB %b %b%b" % (reply, inbox, plain) for reply in asked])

    while True:
        await connection.ready()
        try:
            await connection.link.ask(commands, ANSWER_S_MAX, answers=len(asked))
        except (Disconnected, NoResponders, TimeoutError):
            await asyncio.sleep(RETRY_S)
        else:
            return


def _lasts(replies: Sequence[bytes]) -> set[int]:
    """Where the last of each consumer is. Most come in runs of one, which costs each a comparison."""
    ends: dict[bytes, int] = {}
    here = b"."  # No subject begins so.
    for n, reply in enumerate(replies):
        if not reply.startswith(here):
            here = _consumer(reply) + b"."
        ends[here] = n
    return set(ends.values())


def _consumer(reply: bytes) -> bytes:
    """What all ack subjects of one consumer begin with."""
    tokens = reply.split(b".")
    return b".".join(tokens[: 4 if len(tokens) == ACK_TOKENS else 6])
