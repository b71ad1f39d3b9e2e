"""Traffic as gRPC allows it, generated: calls, their frames, any interleaving, any split into writes."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from tests.wire import octets as o
from tests.wire.peer import asking

CALLS_MAX = 6  # At once on a connection; more finds no more.
Metadata = list[tuple[str, str]]

texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40).map(
    lambda text: text.strip() or "x"
)
binaries = st.binary(max_size=40)
payloads = st.one_of(st.binary(max_size=30), st.integers(0, 40_000).map(lambda size: b"\xa5" * size))


def encode(value: bytes, padded: bool) -> str:
    text = base64.b64encode(value).decode()
    return text if padded else text.rstrip("=")


@st.composite
def metadata(draw: st.DrawFn) -> Metadata:
    """Of both sorts, with names that come more than once, as the echo gives them back."""
    plain = [("x-echo", draw(texts)) for _ in range(draw(st.integers(0, 3)))]
    binary = [
        ("x-echo-bin", encode(draw(binaries), draw(st.booleans()))) for _ in range(draw(st.integers(0, 2)))
    ]
    noise = [(f"x-noise-{n}", draw(texts)) for n in range(draw(st.integers(0, 2)))]
    return draw(st.permutations([*plain, *binary, *noise]))


@dataclass
class Call:
    """One call, and the frames that make it."""

    rpc: str
    path: str | None
    fields: Metadata
    messages: list[bytes]
    cancelled: bool
    frames: list[bytes] = field(default_factory=list)


@st.composite
def calls(draw: st.DrawFn, stream: int) -> Call:
    rpc = draw(st.sampled_from(["Unary", "ServerStream", "ClientStream", "Bidi"]))
    count = draw(st.integers(0, 4)) if rpc in ("ClientStream", "Bidi") else 1
    fields = draw(metadata())
    if draw(st.integers(0, 4)) == 0:
        text = encode(draw(st.text(max_size=20)).encode("utf-8", "ignore"), padded=False)
        fields += [("x-status", str(draw(st.integers(1, 16)))), ("x-message-bin", text)]
    if rpc == "ServerStream":
        fields.append(("x-count", str(draw(st.integers(0, 5)))))
    if draw(st.booleans()):
        fields.append(("grpc-timeout", draw(st.sampled_from(["1H", "30S", "99999999m"]))))
    path = draw(st.sampled_from([None] * 9 + ["/no.Such/Method"]))
    call = Call(rpc, path, fields, [draw(payloads) for _ in range(count)], draw(st.integers(0, 6)) == 0)
    call.frames = draw(frames(stream, call))
    return call


@st.composite
def frames(draw: st.DrawFn, stream: int, call: Call) -> list[bytes]:
    """Header block in one to four frames, a body cut anywhere, empty frames, a late end.

    No padding: grpc's core does not read it.
    """
    packed = draw(st.booleans())
    encoding = [("grpc-encoding", "gzip")] if packed else []
    changes = {"path": call.path} if call.path else {}
    block = o.block([*asking(call.rpc, **changes), *encoding, *call.fields])
    parts = draw(cut(block, 4))
    found = [o.frame(o.HEADERS, o.END_HEADERS * (len(parts) == 1), stream, parts[0])]
    for index, part in enumerate(parts[1:], 2):
        found.append(o.frame(o.CONTINUATION, o.END_HEADERS * (index == len(parts)), stream, part))
    head = b"".join(found)  # Nothing may come between them.
    body = b"".join(
        o.message(gzip.compress(each), 1) if packed and draw(st.booleans()) else o.message(each)
        for each in call.messages
    )
    pieces = [piece for part in draw(cut(body, 6)) for piece in _sized(part)]
    late = draw(st.booleans()) or not pieces
    tail = [
        o.data(stream, piece, o.END_STREAM * (index == len(pieces) and not late))
        for index, piece in enumerate(pieces, 1)
    ]
    tail += [o.data(stream, b"", o.END_STREAM)] if late else []
    if call.cancelled:
        kept = draw(st.integers(0, len(tail) - 1))
        tail = [*tail[:kept], o.rst_stream(stream, o.CANCEL)]
    return [head, *tail]


def _sized(part: bytes) -> list[bytes]:
    return [part[at : at + o.FRAME_BYTES] for at in range(0, len(part), o.FRAME_BYTES)] or [b""]


@st.composite
def cut(draw: st.DrawFn, octets: bytes, parts_max: int) -> list[bytes]:
    """The same bytes in one to `parts_max` pieces, some of them empty."""
    points = draw(st.lists(st.integers(0, len(octets)), max_size=parts_max - 1))
    return [octets[a:b] for a, b in pairwise([0, *sorted(points), len(octets)])]


@dataclass
class Traffic:
    """What one client sends on one connection."""

    calls: dict[int, Call]
    window: int
    writes: list[bytes]

    def __repr__(self) -> str:
        told = {
            stream: (c.rpc, c.path, c.fields, [*map(len, c.messages)]) for stream, c in self.calls.items()
        }
        return f"Traffic({told}, window {self.window}, writes of {[*map(len, self.writes)]})"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """What Hypothesis shows of a failure."""
        printer.text(repr(self))


@st.composite
def traffic(draw: st.DrawFn) -> Traffic:
    """Streams open in the order of their numbers; everything else may mix."""
    streams = range(1, 2 * draw(st.integers(1, CALLS_MAX)), 2)
    made = {stream: draw(calls(stream)) for stream in streams}
    queues = {stream: [*call.frames] for stream, call in made.items()}
    order: list[bytes] = []
    begun, waiting = [], [*streams]
    while waiting or begun:
        choices = [*begun, *waiting[:1]]
        stream = choices[draw(st.integers(0, len(choices) - 1))]
        if waiting and stream == waiting[0]:
            begun.append(waiting.pop(0))
        order.append(queues[stream].pop(0))
        order += [o.ping()] if draw(st.integers(0, 9)) == 0 else []
        if not queues[stream]:
            begun.remove(stream)
    window = draw(st.sampled_from([1_000, o.WINDOW_BYTES, 1 << 20]))
    return Traffic(made, window, draw(cut(b"".join(order), 20)))
