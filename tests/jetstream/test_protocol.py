"""The parser understands a server however its bytes are cut, as nats-py's does, and refuses all else."""

import asyncio
import contextlib
import itertools
import random

import pytest
from hypothesis import given, settings, strategies as st
from nats.errors import ProtocolError as TheirProtocolError
from nats.protocol.parser import Parser as TheirParser

from services.chassis.jetstream import headers, protocol
from services.chassis.jetstream.errors import ProtocolError
from services.chassis.jetstream.protocol import Message, Parser, publication

WORD = st.from_regex(rb"[A-Za-z0-9_.$*>-]{1,30}", fullmatch=True)
NUMBER = st.integers(1, 999).map(lambda n: b"%d" % n)


class Ours:
    """What our parser told, in order within each kind."""

    def __init__(self) -> None:
        self.messages: dict[bytes, list[Message]] = {}
        self.controls: list[tuple[bytes, bytes]] = []
        self.parser = Parser(self._deliver, lambda name, rest: self.controls.append((name, rest)))

    def _deliver(self, sid: bytes, messages: list[Message]) -> None:
        self.messages.setdefault(sid, []).extend(messages)


class Theirs:
    """The same of nats-py's parser, which calls a client."""

    def __init__(self) -> None:
        self.messages: dict[bytes, list[Message]] = {}
        self.controls: list[bytes] = []
        self.parser = TheirParser(self)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, payload: bytes, head: bytes | None
    ) -> None:
        message = Message(bytes(subject), bytes(reply), head or b"", payload)
        self.messages.setdefault(b"%d" % sid, []).append(message)

    async def _process_ping(self) -> None:
        self.controls.append(b"PING")

    async def _process_pong(self) -> None:
        self.controls.append(b"PONG")

    async def _process_err(self, error: str) -> None:
        self.controls.append(b"-ERR")

    async def _process_info(self, info: object) -> None:
        self.controls.append(b"INFO")


@st.composite
def message_text(draw: st.DrawFn) -> bytes:
    subject, sid, payload = draw(WORD), draw(NUMBER), draw(st.binary(max_size=300))
    reply = draw(st.one_of(st.just(b""), WORD.map(lambda word: word + b" ")))
    if draw(st.booleans()):
        return b"MSG %b %b %b%d\r\n%b\r\n" % (subject, sid, reply, len(payload), payload)
    head = b"NATS/1.0\r\nA: %b\r\n\r\n" % draw(WORD)
    size = len(head) + len(payload)
    return b"HMSG %b %b %b%d %d\r\n%b%b\r\n" % (subject, sid, reply, len(head), size, head, payload)


CONTROLS = st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"a": 1}\r\n', b"-ERR 'No'\r\n"])
TALK = st.lists(st.one_of(message_text(), CONTROLS), max_size=12).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@settings(max_examples=300, deadline=None)
@given(TALK, st.lists(st.integers(0, 10**6), max_size=8))
def test_bytes_cut_anywhere_are_understood_as_by_nats_py(data: bytes, cuts: list[int]) -> None:
    ours, theirs = Ours(), Theirs()
    for piece in pieces(data, cuts):
        ours.parser.feed(piece)
    asyncio.run(theirs.parser.parse(data))
    assert ours.messages == theirs.messages
    assert [name for name, _ in ours.controls if name != b"+OK"] == theirs.controls


def test_byte_by_byte_is_understood_too() -> None:
    message = b"HMSG a.b 7 reply 14 20\r\nNATS/1.0\r\nA:\r\n\r\n"[:-2] + b"\r\n"
    head = headers.encode({"A": "b"})
    message = b"HMSG a.b 7 reply %d %d\r\n%b123456\r\n" % (len(head), len(head) + 6, head)
    ours = Ours()
    for n in range(len(message)):
        assert ours.messages == {}
        ours.parser.feed(message[n : n + 1])
    assert ours.messages == {b"7": [Message(b"a.b", b"reply", head, b"123456")]}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), TALK, st.integers(0, 10**6))
def test_rubbish_is_refused_and_never_anything_worse(rubbish: bytes, talk: bytes, place: int) -> None:
    at = place % (len(talk) + 1)
    ours = Ours()
    with contextlib.suppress(ProtocolError):
        ours.parser.feed(talk[:at] + rubbish + talk[at:])


MALFORMED = [
    b"MSG a 1\r\n",
    b"MSG a 1 b c 3\r\nabc\r\n",
    b"MSG a 1 -1\r\n\r\n",
    b"MSG a 1 1_0\r\n0123456789\r\n",
    b"MSG a 1 99999999999\r\n",
    b"MSG a 1 100000000\r\n",
    b"MSG a 1 3\r\nabcd\r\n",
    b"HMSG a 1 5\r\nabcde\r\n",
    b"HMSG a 1 0 5\r\nabcde\r\n",
    b"HMSG a 1 9 5\r\nabcde\r\n",
    b"msg a 1 3\r\nabc\r\n",
    b"HELLO\r\n",
    b"\r\n",
    b"x" * (protocol.LINE_BYTES_MAX + 2),
    b"INFO " + b"x" * (protocol.LINE_BYTES_MAX + 2) + b"\r\n",
]


@pytest.mark.parametrize("line", MALFORMED, ids=[line[:20].decode() for line in MALFORMED])
def test_a_malformed_line_is_refused(line: bytes) -> None:
    ours = Ours()
    with pytest.raises(ProtocolError):
        ours.parser.feed(b"PING\r\n" + line)
    assert ours.controls == [(b"PING", b"")]


@pytest.mark.parametrize("line", [b"MSG a 1\r\n", b"HELLO\r\n"])
async def test_what_we_refuse_nats_py_refuses_too(line: bytes) -> None:
    with pytest.raises(TheirProtocolError):
        await Theirs().parser.parse(line)


def test_messages_before_a_pong_are_delivered_before_it() -> None:
    order: list[str] = []
    parser = Parser(
        lambda sid, messages: order.append(f"{len(messages)} of {sid.decode()}"),
        lambda name, rest: order.append(name.decode()),
    )
    parser.feed(b"MSG a 1 1\r\nx\r\nMSG a 2 1\r\nx\r\nMSG a 1 1\r\ny\r\nPONG\r\nMSG a 1 0\r\n\r\n")
    assert order == ["2 of 1", "1 of 2", "PONG", "1 of 1"]


def test_a_large_message_in_small_chunks_is_put_together_once() -> None:
    payload = random.Random(5).randbytes(8 * 1024 * 1024)
    data = b"MSG a 1 %d\r\n%b\r\n" % (len(payload), payload)
    ours = Ours()
    for at in range(0, len(data), 1500):
        ours.parser.feed(data[at : at + 1500])
        assert len(ours.parser._parts) <= at // 1500 + 1
    assert ours.messages[b"1"][0].payload == payload


def test_commands_are_what_servers_expect() -> None:
    assert publication(b"a", b"", b"", b"hi") == b"PUB a 2\r\nhi\r\n"
    assert publication(b"a", b"r", b"", b"") == b"PUB a r 0\r\n\r\n"
    head = headers.encode({"K": "v"})
    assert publication(b"a", b"r", head, b"hi") == b"HPUB a r 18 20\r\nNATS/1.0\r\nK: v\r\n\r\nhi\r\n"


@pytest.mark.parametrize("text", ["", "a b", "a\r\nPUB x 0", "a\n", "\ta", " "])
def test_a_subject_that_would_split_the_line_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        protocol.subject(text)


@pytest.mark.parametrize(
    ("name", "value"), [("a", "b\r\nc: d"), ("a\nb", "c"), ("a:b", "c"), ("", "c"), ("a b", "")]
)
def test_a_header_that_would_break_out_is_refused(name: str, value: str) -> None:
    with pytest.raises(ProtocolError):
        headers.encode({name: value})


@given(st.dictionaries(st.from_regex(r"[A-Za-z-]{1,10}", fullmatch=True), st.text("äöx :-1", max_size=20)))
def test_headers_come_back_as_they_went(sent: dict[str, str]) -> None:
    assert headers.decode(headers.encode(sent)) == {name: value.strip() for name, value in sent.items()}


def test_a_status_is_told_from_a_publishers_headers() -> None:
    assert headers.status(b"NATS/1.0 408 Request Timeout\r\n\r\n") == 408
    assert headers.status(b"NATS/1.0 503\r\n\r\n") == 503
    assert headers.status(headers.encode({"a": "b"})) == 0
    assert headers.status(b"") == 0
