"""Frames are written as hyperframe reads them, and read as it does; each wrong one is its own fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

import pytest
from hyperframe import exceptions, frame as oracle
from hypothesis import given, settings as example_settings, strategies as st

from services.chassis.wire import frames, settings
from services.chassis.wire.errors import ConnectionFault, ErrorCode, StreamFault
from services.chassis.wire.frames import Flag, FrameType, Goaway
from services.chassis.wire.settings import UNLIMITED, VALUES_MAX, Setting, Settings

SLOW_S = 120  # Of each slow form: a million and more inputs.

Read = Callable[[int, int, bytes], object]

# By type: what our reader says of (stream, flags, payload).
READERS: dict[FrameType, Read] = {
    FrameType.DATA: frames.read_data,
    FrameType.HEADERS: frames.read_headers,
    FrameType.PRIORITY: lambda stream_id, _, payload: frames.read_priority(stream_id, payload),
    FrameType.RST_STREAM: lambda stream_id, _, payload: frames.read_rst_stream(stream_id, payload),
    FrameType.SETTINGS: lambda stream_id, flags, payload: dict(settings.parse(stream_id, flags, payload)),
    FrameType.PING: lambda stream_id, _, payload: frames.read_ping(stream_id, payload),
    FrameType.GOAWAY: lambda stream_id, _, payload: frames.read_goaway(stream_id, payload),
    FrameType.WINDOW_UPDATE: lambda stream_id, _, payload: frames.read_window_update(stream_id, payload),
    FrameType.CONTINUATION: lambda stream_id, _, payload: frames.read_continuation(stream_id, payload),
}
# And what hyperframe has read.
CONTENT: dict[FrameType, Callable[..., object]] = {
    FrameType.DATA: lambda frame: frame.data,
    FrameType.HEADERS: lambda frame: frame.data,
    FrameType.PRIORITY: lambda _: None,
    FrameType.RST_STREAM: lambda frame: frame.error_code,
    FrameType.SETTINGS: lambda frame: frame.settings,
    FrameType.PING: lambda frame: frame.opaque_data,
    FrameType.GOAWAY: lambda frame: Goaway(frame.last_stream_id, frame.error_code, frame.additional_data),
    FrameType.WINDOW_UPDATE: lambda frame: frame.window_increment,
    FrameType.CONTINUATION: lambda frame: frame.data,
}
REFUSED = "refused"


def theirs(kind: int, stream_id: int, flags: int, payload: bytes) -> object:
    try:
        frame, length = oracle.Frame.parse_frame_header(
            memoryview(frames.head(len(payload), kind, flags, stream_id))
        )
        assert length == len(payload)
        frame.parse_body(memoryview(payload))
    except exceptions.HyperframeError:
        return REFUSED
    return CONTENT[FrameType(kind)](frame)


def ours(kind: int, stream_id: int, flags: int, payload: bytes) -> object:
    try:
        return READERS[FrameType(kind)](stream_id, flags, payload)
    except (ConnectionFault, StreamFault):
        return REFUSED


def differs_by_the_rfc(kind: int, flags: int, payload: bytes) -> bool:
    """What hyperframe takes otherwise than RFC 9113 says."""
    if kind == FrameType.WINDOW_UPDATE:
        return len(payload) == 4 and payload[0] >= 0x80  # §6.9: the reserved bit is ignored,
    if kind == FrameType.GOAWAY:
        return len(payload) >= 8 and payload[0] >= 0x80  # §6.8: here too.
    if kind == FrameType.HEADERS and flags & Flag.PADDED and payload:
        priority = 5 if flags & Flag.PRIORITY else 0
        room = len(payload) - 1 - priority
        # §6.2: padding may take all the room, and not that of the priority.
        return payload[0] == room or room < payload[0] <= room + priority
    if kind == FrameType.SETTINGS:  # Hyperframe knows no values that are wrong, nor too many.
        return len(payload) % 6 == 0 and not (flags & Flag.ACK and payload)
    return False


def some_frame(chance: random.Random) -> tuple[int, int, int, bytes]:
    """Of sizes around the right one, with padding around the longest."""
    kind = chance.choice(list(READERS))
    sizes = {
        FrameType.PRIORITY: 5,
        FrameType.RST_STREAM: 4,
        FrameType.SETTINGS: 12,
        FrameType.PING: 8,
        FrameType.GOAWAY: 8,
        FrameType.WINDOW_UPDATE: 4,
    }
    size = sizes.get(kind, chance.randrange(12))
    if chance.random() < 0.3:
        size = max(0, size + chance.randint(-3, 6))
    payload = chance.randbytes(size)
    if payload and chance.random() < 0.6:
        payload = bytes([chance.randrange(size + 2)]) + payload[1:]
    return kind, chance.choice((0, 1, 1, 3, 2**31 - 1)), chance.randrange(256), payload


def a_frame_is_read_alike(chance: random.Random) -> None:
    kind, stream_id, flags, payload = some_frame(chance)
    found, expected = ours(kind, stream_id, flags, payload), theirs(kind, stream_id, flags, payload)
    if not differs_by_the_rfc(kind, flags, payload):
        assert found == expected, (FrameType(kind).name, stream_id, flags, payload.hex())


def a_frame_is_written_to_be_read(chance: random.Random) -> None:
    stream_id, word = chance.randrange(1, 2**31), chance.randrange(2**32)
    payload, ended = chance.randbytes(chance.randrange(40)), chance.random() < 0.5
    values = {chance.randrange(1, 2**8): chance.randrange(2**32) for _ in range(chance.randrange(6))}
    opaque = chance.randbytes(8)
    written = [
        (frames.data(stream_id, payload, ended), payload),
        (frames.rst_stream(stream_id, word), word),
        (frames.settings(values), values),
        (frames.SETTINGS_ACK, {}),
        (frames.ping(opaque, ended), opaque),
        (frames.goaway(stream_id, word, payload), Goaway(stream_id, word, payload)),
        (frames.window_update(stream_id, word >> 1 or 1), word >> 1 or 1),
    ]
    for octets, content in written:
        frame, length = oracle.Frame.parse_frame_header(memoryview(octets[:9]))
        assert length == len(octets) - frames.HEAD_BYTES
        frame.parse_body(memoryview(octets[9:]))
        assert CONTENT[FrameType(frame.type)](frame) == content
        if isinstance(frame, oracle.DataFrame):
            assert ("END_STREAM" in frame.flags, frame.stream_id) == (ended, stream_id)
        if isinstance(frame, oracle.PingFrame):
            assert ("ACK" in frame.flags) == ended


def a_block_is_written_to_be_joined(chance: random.Random) -> None:
    """§6.10: HEADERS, CONTINUATIONs, the last of which ends the block, and none above the peer's size."""
    most, ended = chance.choice((1, 7, 16)), chance.random() < 0.5
    block = chance.randbytes(chance.randrange(60))
    octets, parts = frames.headers(5, block, ended, most), []
    while octets:
        frame, length = oracle.Frame.parse_frame_header(memoryview(octets[:9]))
        frame.parse_body(memoryview(octets[9 : 9 + length]))
        parts.append(frame)
        octets = octets[9 + length :]
    assert b"".join(part.data for part in parts) == block
    assert max(len(part.data) for part in parts) <= most
    assert [type(part) for part in parts[1:]] == [oracle.ContinuationFrame] * (len(parts) - 1)
    assert ["END_HEADERS" in part.flags for part in parts] == [*[False] * (len(parts) - 1), True]
    assert ("END_STREAM" in parts[0].flags) == ended


PROPERTIES = [a_frame_is_read_alike, a_frame_is_written_to_be_read, a_block_is_written_to_be_joined]
each_property = pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)


@each_property
@example_settings(max_examples=400, deadline=None)
@given(chance=st.randoms(use_true_random=True))
def test_it_holds(holds: Callable[[random.Random], None], chance: random.Random) -> None:
    for _ in range(10):
        holds(chance)


@pytest.mark.slow
@pytest.mark.timeout(2 * SLOW_S)
@each_property
def test_it_holds_for_long(
    holds: Callable[[random.Random], None], record_property: Callable[[str, object], None]
) -> None:
    seed, end, inputs = random.randrange(1 << 32), monotonic() + SLOW_S, 0
    while monotonic() < end:
        seed, inputs = seed + 1, inputs + 1
        try:
            holds(random.Random(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    record_property("inputs", inputs)


CONNECTION, STREAM = ConnectionFault, StreamFault
SIZE, PROTOCOL, FLOW = ErrorCode.FRAME_SIZE_ERROR, ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR
PUSH, WINDOW, LARGEST = Setting.ENABLE_PUSH, Setting.INITIAL_WINDOW_SIZE, Setting.MAX_FRAME_SIZE


def setting(key: int, value: int) -> bytes:
    return frames.settings({key: value})[9:]


WRONG = [
    ("§6.1 on stream 0", FrameType.DATA, 0, 0, b"", CONNECTION, PROTOCOL),
    ("§6.1 no octet for padding", FrameType.DATA, 1, Flag.PADDED, b"", CONNECTION, SIZE),
    ("§6.1 padding as long as the payload", FrameType.DATA, 1, Flag.PADDED, b"\x03ab", CONNECTION, PROTOCOL),
    ("§6.2 on stream 0", FrameType.HEADERS, 0, 0, b"", CONNECTION, PROTOCOL),
    ("§6.2 too much padding", FrameType.HEADERS, 1, Flag.PADDED, b"\x02a", CONNECTION, PROTOCOL),
    ("§6.2 half a priority", FrameType.HEADERS, 1, Flag.PRIORITY, b"abcd", CONNECTION, SIZE),
    ("§6.3 on stream 0", FrameType.PRIORITY, 0, 0, b"abcde", CONNECTION, PROTOCOL),
    ("§6.3 not of 5 octets", FrameType.PRIORITY, 1, 0, b"abcd", STREAM, SIZE),
    ("§6.4 on stream 0", FrameType.RST_STREAM, 0, 0, b"abcd", CONNECTION, PROTOCOL),
    ("§6.4 not of 4 octets", FrameType.RST_STREAM, 1, 0, b"abcde", CONNECTION, SIZE),
    ("§6.5 on a stream", FrameType.SETTINGS, 1, 0, b"", CONNECTION, PROTOCOL),
    ("§6.5 an ACK with values", FrameType.SETTINGS, 0, Flag.ACK, setting(1, 1), CONNECTION, SIZE),
    ("§6.5 not of sixes", FrameType.SETTINGS, 0, 0, b"abcde", CONNECTION, SIZE),
    ("§6.5.2 push", FrameType.SETTINGS, 0, 0, setting(PUSH, 2), CONNECTION, PROTOCOL),
    ("§6.5.2 window", FrameType.SETTINGS, 0, 0, setting(WINDOW, 2**31), CONNECTION, FLOW),
    ("§6.5.2 small frames", FrameType.SETTINGS, 0, 0, setting(LARGEST, 16_383), CONNECTION, PROTOCOL),
    ("§6.5.2 large frames", FrameType.SETTINGS, 0, 0, setting(LARGEST, 2**24), CONNECTION, PROTOCOL),
    ("§6.7 on a stream", FrameType.PING, 1, 0, b"abcdefgh", CONNECTION, PROTOCOL),
    ("§6.7 not of 8 octets", FrameType.PING, 0, 0, b"abcdefg", CONNECTION, SIZE),
    ("§6.8 on a stream", FrameType.GOAWAY, 1, 0, b"abcdefgh", CONNECTION, PROTOCOL),
    ("§6.8 cut off", FrameType.GOAWAY, 0, 0, b"abcdefg", CONNECTION, SIZE),
    ("§6.9 by nothing, on a stream", FrameType.WINDOW_UPDATE, 1, 0, b"\0\0\0\0", STREAM, PROTOCOL),
    ("§6.9 by nothing", FrameType.WINDOW_UPDATE, 0, 0, b"\x80\0\0\0", CONNECTION, PROTOCOL),
    ("§6.9 not of 4 octets", FrameType.WINDOW_UPDATE, 1, 0, b"\0\0\1", CONNECTION, SIZE),
    ("§6.10 on stream 0", FrameType.CONTINUATION, 0, 0, b"", CONNECTION, PROTOCOL),
]


@pytest.mark.parametrize(
    ("kind", "stream_id", "flags", "payload", "reach", "code"),
    [w[1:] for w in WRONG],
    ids=[w[0] for w in WRONG],
)
def test_a_wrong_frame_is_the_fault_that_the_rfc_says(
    kind: FrameType,
    stream_id: int,
    flags: int,
    payload: bytes,
    reach: type[ConnectionFault | StreamFault],
    code: ErrorCode,
) -> None:
    with pytest.raises(reach) as fault:
        READERS[kind](stream_id, flags, payload)
    assert fault.value.code is code


def test_padding_may_be_all_there_is() -> None:
    assert frames.read_data(1, Flag.PADDED, b"\x02ab") == b""
    assert frames.read_headers(1, Flag.PADDED, b"\x02ab") == b""
    assert (
        frames.read_headers(1, Flag.PADDED | Flag.PRIORITY, b"\x01" + b"prior" + b"block" + b"p") == b"block"
    )


def test_reserved_bits_are_ignored() -> None:
    assert frames.read_window_update(1, b"\x80\0\0\7") == 7
    assert frames.read_goaway(0, b"\x80\0\0\7" + b"\0\0\0\0") == Goaway(7, 0, b"")


def test_settings_are_taken_over_in_order_and_unknown_ones_passed_over() -> None:
    payload = (
        setting(WINDOW, 1) + setting(0xFF, 5) + setting(WINDOW, 2) + setting(Setting.HEADER_TABLE_SIZE, 0)
    )
    found = settings.parse(0, 0, payload)
    assert found == [(WINDOW, 1), (0xFF, 5), (WINDOW, 2), (Setting.HEADER_TABLE_SIZE, 0)]
    peer = Settings()
    peer.apply(found)
    assert peer == Settings(header_table_bytes=0, window_bytes=2)


def test_settings_of_each_name_arrive() -> None:
    peer = Settings()
    values = {
        PUSH: 0,
        Setting.MAX_CONCURRENT_STREAMS: 7,
        LARGEST: 2**24 - 1,
        Setting.MAX_HEADER_LIST_SIZE: UNLIMITED,
    }
    peer.apply(settings.parse(0, 0, frames.settings({int(key): value for key, value in values.items()})[9:]))
    assert peer == Settings(push=False, streams_max=7, frame_bytes_max=2**24 - 1)


def test_a_server_may_not_offer_push() -> None:
    assert settings.parse(0, 0, setting(PUSH, 0), from_server=True) == [(PUSH, 0)]
    with pytest.raises(ConnectionFault) as fault:
        settings.parse(0, 0, setting(PUSH, 1), from_server=True)
    assert fault.value.code is PROTOCOL


def test_settings_of_a_frame_have_a_bound() -> None:
    assert len(settings.parse(0, 0, setting(WINDOW, 1) * VALUES_MAX)) == VALUES_MAX
    with pytest.raises(ConnectionFault) as fault:
        settings.parse(0, 0, setting(WINDOW, 1) * (VALUES_MAX + 1))
    assert fault.value.code is ErrorCode.ENHANCE_YOUR_CALM
