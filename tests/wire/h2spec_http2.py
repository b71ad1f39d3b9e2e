"""h2spec's http2 group, §3 to §6.4: prefaces, frames, stream states, DATA to RST_STREAM."""

from __future__ import annotations

from tests.wire import octets as o
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.specimen import Case, answered, closed, either, ended, fault, pong, reset, served

FIELDS = asking()
MORE = [("x-dummy", "0")]
CALL = request()
OPEN = o.headers(1, FIELDS)
HANGING = hanging()
HANGING_OPEN = hanging(half_closed=False)
BLOCK_OPEN = o.headers(1, FIELDS, 0)  # CONTINUATION must follow.
UNKNOWN = o.frame(0x16, payload=bytes(8))
TOO_MUCH = o.FRAME_BYTES + 1


async def preface_came_first(peer: Peer) -> None:
    first = await peer.frame()
    assert (first.kind, first.flags & o.ACK, first.stream) == (o.SETTINGS, 0, 0)


async def limit_holds(peer: Peer) -> None:
    """The stream past the advertised number is refused, or answered with PROTOCOL_ERROR (RFC 9113 §5.1.2)."""
    advertised = dict(peer.seen[0].settings)[o.MAX_CONCURRENT_STREAMS]
    streams = [2 * index + 1 for index in range(advertised + 1)]
    await peer.send(*(hanging(stream) for stream in streams))
    await either(o.REFUSED_STREAM, o.PROTOCOL_ERROR, stream=streams[-1])(peer)
    assert [f.stream for f in peer.seen if f.kind == o.RST_STREAM] == streams[-1:]


async def depends_on_itself(peer: Peer) -> None:
    """RFC 7540 §5.3.1 made it a stream error; RFC 9113 has no such rule, so it may be let be."""
    frames = await peer.pong()
    assert {f.code for f in frames if f.kind == o.RST_STREAM} <= {o.PROTOCOL_ERROR}


PREFACES = [
    Case(
        "http2/3.5/1",
        "Sends client connection preface",
        [o.PREFACE + o.settings((o.INITIAL_WINDOW_SIZE, o.WINDOW_BYTES))],
        preface_came_first,
        greeted=False,
    ),
    Case(
        "http2/3.5/2",
        "Sends invalid connection preface",
        [b"INVALID CONNECTION PREFACE\r\n\r\n"],
        closed,
        greeted=False,
    ),
]
FORMAT = [
    Case("http2/4.1/1", "Sends a frame with unknown type", [UNKNOWN], pong),
    Case("http2/4.1/2", "Sends a frame with undefined flag", [o.ping(b"undefine", 0x16)], pong),
    Case(
        "http2/4.1/3",
        "Sends a frame with reserved field bit",
        [o.frame(o.PING, 0x16, 1 << 31, b"reserved")],
        pong,
    ),
    Case(
        "http2/4.2/1",
        "Sends a DATA frame with 2^14 octets in length",
        [OPEN, o.data(1, o.message(bytes(o.FRAME_BYTES - 5)), o.END_STREAM)],
        served,
    ),
    Case(
        "http2/4.2/2",
        "Sends a large size DATA frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
        [OPEN, o.data(1, bytes(TOO_MUCH))],
        either(o.FRAME_SIZE_ERROR),
    ),
    Case(
        "http2/4.2/3",
        "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
        [o.headers(1, [*FIELDS, ("x-dummy", "0" * TOO_MUCH)], o.WHOLE)],
        fault(o.FRAME_SIZE_ERROR),
    ),
    Case(
        "http2/4.3/1",
        "Sends invalid header block fragment",
        [o.frame(o.HEADERS, o.WHOLE, 1, b"\x40")],
        fault(o.COMPRESSION_ERROR),
    ),
    Case(
        "http2/4.3/2",
        "Sends a PRIORITY frame while sending the header blocks",
        [BLOCK_OPEN, o.priority(1), o.continuation(1, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/4.3/3",
        "Sends a HEADERS frame to another stream while sending the header blocks",
        [BLOCK_OPEN, o.headers(3, FIELDS, o.WHOLE), o.continuation(1, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
]
GONE = fault(o.PROTOCOL_ERROR, o.STREAM_CLOSED)
STATES = [
    Case("http2/5.1/1", "idle: Sends a DATA frame", [o.data(1, b"test", 1)], fault(o.PROTOCOL_ERROR)),
    Case("http2/5.1/2", "idle: Sends a RST_STREAM frame", [o.rst_stream(1)], fault(o.PROTOCOL_ERROR)),
    Case(
        "http2/5.1/3", "idle: Sends a WINDOW_UPDATE frame", [o.window_update(1, 9)], fault(o.PROTOCOL_ERROR)
    ),
    Case(
        "http2/5.1/4",
        "idle: Sends a CONTINUATION frame",
        [o.continuation(1, FIELDS)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/5.1/5",
        "half closed (remote): Sends a DATA frame",
        [HANGING, o.data(1, b"test", o.END_STREAM)],
        reset(o.STREAM_CLOSED),
    ),
    Case(
        "http2/5.1/6",
        "half closed (remote): Sends a HEADERS frame",
        [HANGING, o.headers(1, FIELDS, o.WHOLE)],
        reset(o.STREAM_CLOSED),
    ),
    Case(
        "http2/5.1/7",
        "half closed (remote): Sends a CONTINUATION frame",
        [HANGING, o.continuation(1, FIELDS)],
        GONE,
    ),
    Case(
        "http2/5.1/8",
        "closed: Sends a DATA frame after sending RST_STREAM frame",
        [HANGING_OPEN, o.rst_stream(1), o.data(1, b"test", o.END_STREAM)],
        either(o.STREAM_CLOSED),
    ),
    Case(
        "http2/5.1/9",
        "closed: Sends a HEADERS frame after sending RST_STREAM frame",
        [HANGING_OPEN, o.rst_stream(1), o.headers(1, FIELDS, o.WHOLE)],
        either(o.STREAM_CLOSED),
    ),
    Case(
        "http2/5.1/10",
        "closed: Sends a CONTINUATION frame after sending RST_STREAM frame",
        [HANGING_OPEN, o.rst_stream(1), o.continuation(1, MORE)],
        GONE,
    ),
    Case(
        "http2/5.1/11",
        "closed: Sends a DATA frame",
        [CALL, ended, o.data(1, b"test", o.END_STREAM)],
        either(o.STREAM_CLOSED),
    ),
    Case(
        "http2/5.1/12",
        "closed: Sends a HEADERS frame",
        [CALL, ended, o.headers(1, FIELDS, o.WHOLE)],
        either(o.STREAM_CLOSED),
    ),
    Case("http2/5.1/13", "closed: Sends a CONTINUATION frame", [CALL, ended, o.continuation(1, MORE)], GONE),
    Case(
        "http2/5.1.1/1",
        "Sends even-numbered stream identifier",
        [o.headers(2, FIELDS)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/5.1.1/2",
        "Sends stream identifier that is numerically smaller than previous",
        [hanging(5), o.headers(3, FIELDS, o.WHOLE)],
        GONE,
    ),
    Case(
        "http2/5.1.1/3",
        "Sends HEADERS frame with the stream which is in half-closed (remote) state",
        [hanging(5), o.headers(5, FIELDS, o.WHOLE)],
        reset(o.STREAM_CLOSED, stream=5),
    ),
    Case(
        "http2/5.1.2/1",
        "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
        [],
        limit_holds,
    ),
    Case(
        "http2/5.3.1/1",
        "Sends HEADERS frame that depends on itself",
        [o.frame(o.HEADERS, o.END_HEADERS | o.PRIORITISED, 1, o.priority_of(1) + o.block(FIELDS))],
        depends_on_itself,
    ),
    Case(
        "http2/5.3.1/2", "Sends PRIORITY frame that depend on itself", [o.priority(1, 1)], depends_on_itself
    ),
    Case(
        "http2/5.4.1/1",
        "Sends an invalid PING frame for connection close",
        [o.frame(o.PING, 0, 3, bytes(8))],
        closed,
    ),
    Case(
        "http2/5.4.1/2",
        "Sends an invalid PING frame to receive GOAWAY frame",
        [o.frame(o.PING, 0, 3, bytes(8))],
        fault(o.PROTOCOL_ERROR),
    ),
    Case("http2/5.5/1", "Sends an unknown extension frame", [UNKNOWN], pong),
    Case(
        "http2/5.5/2",
        "Sends an unknown extension frame in the middle of a header block",
        [BLOCK_OPEN, UNKNOWN],
        fault(o.PROTOCOL_ERROR),
    ),
]
DEFINITIONS = [
    Case(
        "http2/6.1/1",
        "Sends a DATA frame with 0x0 stream identifier",
        [o.data(0, b"test", o.END_STREAM)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.1/2",
        'Sends a DATA frame on the stream that is not in "open" or "half-closed (local)" state',
        [HANGING, o.data(1, b"test", o.END_STREAM)],
        reset(o.STREAM_CLOSED),
    ),
    Case(
        "http2/6.1/3",
        "Sends a DATA frame with invalid pad length",
        [OPEN, o.data(1, b"\x06Test", o.PADDED | o.END_STREAM)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.2/1",
        "Sends a HEADERS frame without the END_HEADERS flag, and a PRIORITY frame",
        [BLOCK_OPEN, o.priority(1), o.continuation(1, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.2/2",
        "Sends a HEADERS frame to another stream while sending a HEADERS frame",
        [BLOCK_OPEN, o.headers(3, FIELDS, o.WHOLE), o.continuation(1, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.2/3",
        "Sends a HEADERS frame with 0x0 stream identifier",
        [o.headers(0, FIELDS, o.WHOLE)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.2/4",
        "Sends a HEADERS frame with invalid pad length",
        [
            o.frame(
                o.HEADERS,
                o.WHOLE | o.PADDED,
                1,
                bytes([len(o.block(FIELDS[:4])) + 1]) + o.block(FIELDS[:4]),
            )
        ],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.3/1",
        "Sends a PRIORITY frame with 0x0 stream identifier",
        [o.priority(0)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.3/2",
        "Sends a PRIORITY frame with a length other than 5 octets",
        [HANGING, o.frame(o.PRIORITY, 0, 1, b"\x80\x00\x00\x01")],
        reset(o.FRAME_SIZE_ERROR),
    ),
    Case(
        "http2/6.3/3",
        "Sends a PRIORITY frame for an idle stream, then send a HEADER frame for a lower stream ID",
        [o.priority(3), CALL],
        answered,
    ),
    Case(
        "http2/6.4/1",
        "Sends a RST_STREAM frame with 0x0 stream identifier",
        [o.rst_stream(0)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.4/2", "Sends a RST_STREAM frame on a idle stream", [o.rst_stream(1)], fault(o.PROTOCOL_ERROR)
    ),
    Case(
        "http2/6.4/3",
        "Sends a RST_STREAM frame with a length other than 4 octets",
        [HANGING, o.frame(o.RST_STREAM, 0, 1, bytes(3))],
        fault(o.FRAME_SIZE_ERROR),
    ),
]
CASES = [*PREFACES, *FORMAT, *STATES, *DEFINITIONS]
