"""h2spec's http2 group, §6.5 to §7: settings, pings, windows, continuations."""

from __future__ import annotations

from tests.wire import octets as o
from tests.wire.peer import Peer, asking, hanging, request
from tests.wire.specimen import (
    Case,
    Expectation,
    acknowledged,
    answered,
    fault,
    first_data,
    let_be,
    one_byte,
    pong,
    reset,
)

FIELDS = asking()
MORE = [("x-dummy", "0")]
CALL = request()
BLOCK_OPEN = o.headers(1, FIELDS, 0)
WINDOW_MAX = 2**31 - 1  # RFC 9113 §6.9.1


async def echoed(peer: Peer) -> None:
    await peer.pong(b"h2spec\0\0")


async def not_echoed(peer: Peer) -> None:
    frames = await peer.pong(b"h2spec\0\0")
    assert [frame for frame in frames if frame.kind == o.PING and frame.payload == b"invalid\0"] == []


def refused(number: int, value: int, code: int) -> tuple[list[bytes], Expectation]:
    return [o.settings((number, value))], fault(code)


SETTINGS = [
    Case(
        "http2/6.5/1",
        "Sends a SETTINGS frame with ACK flag and payload",
        [o.frame(o.SETTINGS, o.ACK, 0, b"\0")],
        fault(o.FRAME_SIZE_ERROR),
    ),
    Case(
        "http2/6.5/2",
        "Sends a SETTINGS frame with 0x1 stream identifier",
        [o.frame(o.SETTINGS, 0, 1, b"\x00\x03\x00\x00\x00\x64")],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.5/3",
        "Sends a SETTINGS frame with a length other than a multiple of 6 octets",
        [o.frame(o.SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64\x00\x02")],
        fault(o.FRAME_SIZE_ERROR),
    ),
    Case(
        "http2/6.5.2/1",
        "SETTINGS_ENABLE_PUSH (0x2): Sends the value other than 0 or 1",
        *refused(o.ENABLE_PUSH, 2, o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.5.2/2",
        "SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow control window size",
        *refused(o.INITIAL_WINDOW_SIZE, WINDOW_MAX + 1, o.FLOW_CONTROL_ERROR),
    ),
    Case(
        "http2/6.5.2/3",
        "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value below the initial value",
        *refused(o.MAX_FRAME_SIZE, o.FRAME_BYTES - 1, o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.5.2/4",
        "SETTINGS_MAX_FRAME_SIZE (0x5): Sends the value above the maximum allowed frame size",
        *refused(o.MAX_FRAME_SIZE, 2**24, o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.5.2/5",
        "Sends a SETTINGS frame with unknown identifier",
        [o.settings((0xFF, 1))],
        pong,
    ),
    Case(
        "http2/6.5.3/1",
        "Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE",
        [o.settings((o.INITIAL_WINDOW_SIZE, 100), (o.INITIAL_WINDOW_SIZE, 1)), acknowledged, CALL],
        one_byte,
    ),
    Case(
        "http2/6.5.3/2",
        "Sends a SETTINGS frame without ACK flag",
        [o.settings((o.ENABLE_PUSH, 0))],
        acknowledged,
    ),
]
PINGS = [
    Case("http2/6.7/1", "Sends a PING frame", [], echoed),
    Case("http2/6.7/2", "Sends a PING frame with ACK", [o.ping(b"invalid\0", o.ACK)], not_echoed),
    Case(
        "http2/6.7/3",
        "Sends a PING frame with a stream identifier field value other than 0x0",
        [o.frame(o.PING, 0, 1, bytes(8))],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.7/4",
        "Sends a PING frame with a length field value other than 8",
        [o.frame(o.PING, 0, 0, bytes(6))],
        fault(o.FRAME_SIZE_ERROR),
    ),
    Case(
        "http2/6.8/1",
        "Sends a GOAWAY frame with a stream identifier other than 0x0",
        [o.frame(o.GOAWAY, 0, 1, bytes(8))],
        fault(o.PROTOCOL_ERROR),
    ),
]
WINDOWS = [
    Case(
        "http2/6.9/1",
        "Sends a WINDOW_UPDATE frame with a flow control window increment of 0",
        [o.window_update(0, 0)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.9/2",
        "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream",
        [hanging(), o.window_update(1, 0)],
        reset(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.9/3",
        "Sends a WINDOW_UPDATE frame with a length other than 4 octets",
        [o.frame(o.WINDOW_UPDATE, 0, 0, b"\0\0\1")],
        fault(o.FRAME_SIZE_ERROR),
    ),
    Case(
        "http2/6.9.1/1",
        "Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame",
        [o.settings((o.INITIAL_WINDOW_SIZE, 1)), acknowledged, CALL],
        one_byte,
    ),
    Case(
        "http2/6.9.1/2",
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1",
        [o.window_update(0, WINDOW_MAX), o.window_update(0, WINDOW_MAX)],
        fault(o.FLOW_CONTROL_ERROR),
    ),
    Case(
        "http2/6.9.1/3",
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
        [hanging(), o.window_update(1, WINDOW_MAX), o.window_update(1, WINDOW_MAX)],
        reset(o.FLOW_CONTROL_ERROR),
    ),
    Case(
        "http2/6.9.2/1",
        "Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame",
        [
            o.settings((o.INITIAL_WINDOW_SIZE, 0)),
            acknowledged,
            CALL,
            o.settings((o.INITIAL_WINDOW_SIZE, 1)),
        ],
        one_byte,
    ),
    Case(
        "http2/6.9.2/2",
        "Sends a SETTINGS frame for window size to be negative",
        [
            o.settings((o.INITIAL_WINDOW_SIZE, 3)),
            acknowledged,
            CALL,
            first_data,
            o.settings((o.INITIAL_WINDOW_SIZE, 2)),
            acknowledged,
            o.window_update(1, 2),
        ],
        one_byte,
    ),
    Case(
        "http2/6.9.2/3",
        "Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window size value",
        *refused(o.INITIAL_WINDOW_SIZE, WINDOW_MAX + 1, o.FLOW_CONTROL_ERROR),
    ),
]
CONTINUATIONS = [
    Case(
        "http2/6.10/1",
        "Sends multiple CONTINUATION frames preceded by a HEADERS frame",
        [
            BLOCK_OPEN,
            o.continuation(1, MORE, 0),
            o.continuation(1, MORE),
            o.data(1, o.message(), o.END_STREAM),
        ],
        answered,
    ),
    Case(
        "http2/6.10/2",
        "Sends a CONTINUATION frame followed by any frame other than CONTINUATION",
        [BLOCK_OPEN, o.continuation(1, MORE, 0), o.data(1, b"test", o.END_STREAM)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.10/3",
        "Sends a CONTINUATION frame with 0x0 stream identifier",
        [BLOCK_OPEN, o.continuation(0, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.10/4",
        "Sends a CONTINUATION frame preceded by a HEADERS frame with END_HEADERS flag",
        [o.headers(1, FIELDS), o.continuation(1, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.10/5",
        "Sends a CONTINUATION frame preceded by a CONTINUATION frame with END_HEADERS flag",
        [BLOCK_OPEN, o.continuation(1, MORE), o.continuation(1, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
    Case(
        "http2/6.10/6",
        "Sends a CONTINUATION frame preceded by a DATA frame",
        [BLOCK_OPEN, o.data(1, b"test", o.END_STREAM), o.continuation(1, MORE, 0), o.continuation(0, MORE)],
        fault(o.PROTOCOL_ERROR),
    ),
]
CODES = [
    Case("http2/7/1", "Sends a GOAWAY frame with unknown error code", [o.goaway(0, 0xFF)], let_be),
    Case(
        "http2/7/2",
        "Sends a RST_STREAM frame with unknown error code",
        [hanging(half_closed=False), o.rst_stream(1, 0xFF)],
        pong,
    ),
]
CASES = [*SETTINGS, *PINGS, *WINDOWS, *CONTINUATIONS, *CODES]
