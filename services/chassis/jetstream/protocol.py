"""The NATS client protocol: what a server sends, parsed in lists; commands to it, as bytes.

https://docs.nats.io/reference/reference-protocols/nats-protocol. The parser makes one pass over each chunk
that the socket gave, and hands on all that it brought for one subscription at once. Order is kept within a
subscription, and between messages and control lines; not between subscriptions.
"""

from collections.abc import Callable
from typing import NamedTuple

from services.chassis.jetstream.errors import ProtocolError

CRLF = b"\r\n"
LINE_BYTES_MAX = 64 * 1024  # An INFO that lists a hundred servers is far smaller; MSG lines are below 4 KB.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024  # The most that a server can be configured to let through.
DIGITS_MAX = 10  # Of a length; longer numbers are beyond MESSAGE_BYTES_MAX anyway.


class Message(NamedTuple):
    """A message as it came: bytes, decoded by whoever needs more."""

    subject: bytes
    reply: bytes  # Empty: no answer is expected.
    head: bytes  # The header block, see headers.py; empty: none.
    payload: bytes


Deliver = Callable[[bytes, list[Message]], None]
Control = Callable[[bytes, bytes], None]


class Parser:
    """Feeds on chunks of one connection, cut anywhere."""

    def __init__(self, deliver: Deliver, control: Control) -> None:
        """`deliver` takes a subscription's id and messages, `control` any other operation and its rest."""
        self._deliver, self._control = deliver, control
        self._parts: list[bytes] = []  # Of what is not complete yet.
        self._held, self._wanted = 0, 0

    def feed(self, chunk: bytes) -> None:
        """Raises ProtocolError; what comes after cannot be understood then."""
        if self._parts:
            self._parts.append(chunk)
            self._held += len(chunk)
            if self._held < self._wanted:
                return
            chunk = b"".join(self._parts)
            self._parts.clear()
        used = self._parse(chunk)
        if used < len(chunk):
            self._parts.append(chunk[used:] if used else chunk)
            self._held = len(chunk) - used

    def _parse(self, data: bytes) -> int:
        """Takes all that is complete. Returns how many bytes that was, and notes how many more it wants."""
        position, size, find, new = 0, len(data), data.find, tuple.__new__
        came: dict[bytes, list[Message]] = {}
        while position < size:
            end = find(CRLF, position)
            if end < 0:
                self._wanted = size - position + 1
                _check_line(size - position)
                break
            words = data[position:end].split()
            if words and (words[0] == b"MSG" or words[0] == b"HMSG"):
                begin = end + 2
                head, total = _lengths(words)
                end = begin + total
                if end + 2 > size:
                    self._wanted = end + 2 - position
                    break
                reply = words[3] if len(words) == (6 if head else 5) else b""
                body = begin + head
                # Not Message(...): NamedTuple's own __new__ takes as long as all the rest of a message.
                message = new(Message, (words[1], reply, data[begin:body], data[body:end]))
                if data[end : end + 2] != CRLF:
                    raise ProtocolError("a message is longer than it said")
                came.setdefault(words[2], []).append(message)
            else:
                self._hand_on(came)
                _check_line(end - position)
                self._control(*_operation(data[position:end]))
            position = end + 2
        self._hand_on(came)
        return position

    def _hand_on(self, came: dict[bytes, list[Message]]) -> None:
        for sid, messages in came.items():
            self._deliver(sid, messages)
        came.clear()


def _lengths(words: list[bytes]) -> tuple[int, int]:
    """Bytes of the header block, and of block and payload together."""
    headed, last = words[0] == b"HMSG", words[-1]
    if len(words) not in ((5, 6) if headed else (4, 5)):
        raise ProtocolError("a message line has a wrong number of words")
    first = words[-2] if headed else b"0"
    if not (last.isdigit() and first.isdigit()) or len(last) > DIGITS_MAX or len(first) > DIGITS_MAX:
        raise ProtocolError("the length of a message is not a number")
    head, total = int(first), int(last)
    if head > total or total > MESSAGE_BYTES_MAX or (headed and not head):
        raise ProtocolError("the length of a message is impossible")
    return head, total


def _operation(line: bytes) -> tuple[bytes, bytes]:
    """A control line's first word and the rest."""
    name, _, rest = line.partition(b" ")
    name = name.strip()
    if name not in (b"PING", b"PONG", b"INFO", b"+OK", b"-ERR"):
        raise ProtocolError("an unknown operation")
    return name, rest.strip()


def _check_line(size: int) -> None:
    if size > LINE_BYTES_MAX:
        raise ProtocolError("a line has no end")


def publication(subject: bytes, reply: bytes, head: bytes, payload: bytes) -> bytes:
    """The command that publishes; `reply` and `head` may be empty."""
    if reply:
        subject = b"%b %b" % (subject, reply)
    if not head:
        return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)
    block = len(head)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, block, block + len(payload), head, payload)


def subscription(subject: bytes, queue: bytes, sid: bytes) -> bytes:
    return b"SUB %b %b %b\r\n" % (subject, queue, sid) if queue else b"SUB %b %b\r\n" % (subject, sid)


def subject(text: str) -> bytes:
    """A subject on its way to the server. Raises ProtocolError on what would end or split the line."""
    raw = text.encode()
    if raw.split() != [raw]:
        raise ProtocolError("a subject is empty or holds white space")
    return raw
