"""Fuzzed codecs: any bytes are read as the oracle reads them, or refused with a fault, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import hpack as oracle
from grpc import StatusCode
from hpack.huffman_table import decode_huffman

from services.chassis.wire import frames, huffman, messages, metadata, settings
from services.chassis.wire.errors import ConnectionFault, HeaderListTooLong, StreamFault
from services.chassis.wire.fields import Malformed
from services.chassis.wire.frames import FrameType
from services.chassis.wire.hpack import Decoder, Encoder
from services.chassis.wire.server.head import Head

LIST_BYTES_MAX = 1 << 20  # Above what a fuzzer's input can say: the bound has a check of its own.
SMALL_LIST_BYTES_MAX = 400  # So that it is met.
MESSAGE_BYTES_MAX = 300  # Likewise.


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut up by its own bytes: each piece after an octet that says how long it is."""
    at = 0
    while at < len(data):
        size = data[at]
        yield data[at + 1 : at + 1 + size]
        at += 1 + size


def header_blocks(data: bytes) -> None:
    """The blocks of a connection, as the oracle reads them; the bound does not put the table out of step."""
    ours, bounded, theirs = (
        Decoder(list_bytes_max=LIST_BYTES_MAX),
        Decoder(list_bytes_max=SMALL_LIST_BYTES_MAX),
        oracle.Decoder(LIST_BYTES_MAX),
    )
    encoder, reader = Encoder(), oracle.Decoder(LIST_BYTES_MAX)
    for block in pieces(data):
        try:
            fields = ours.decode(block)
        except ConnectionFault as fault:
            reason = fault.reason
        else:
            reason = ""
        if reason:
            assert reason == "an integer is too long" or _refused(theirs, block), "the oracle reads it"
            return
        assert fields == _plain(theirs.decode(block, raw=True))
        size = sum(len(name) + len(value) + 32 for name, value in fields)
        try:
            assert bounded.decode(block) == fields
            assert size <= SMALL_LIST_BYTES_MAX
        except HeaderListTooLong:
            assert size > SMALL_LIST_BYTES_MAX
        assert _plain(reader.decode(encoder.encode(fields), raw=True)) == fields


def _plain(fields: object) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in fields]  # type: ignore[attr-defined]


def _refused(theirs: oracle.Decoder, block: bytes) -> bool:
    try:
        theirs.decode(block, raw=True)
    except oracle.HPACKDecodingError:
        return True
    return False


def huffman_string(data: bytes) -> None:
    """As the oracle decodes it."""
    try:
        expected = decode_huffman(data)
    except oracle.HPACKDecodingError:
        expected = None
    try:
        assert huffman.decode(data) == expected
    except ConnectionFault:
        assert expected is None, "the oracle decodes it"


READERS: dict[int, Callable[[int, int, bytes], object]] = {
    FrameType.DATA: frames.read_data,
    FrameType.HEADERS: frames.read_headers,
    FrameType.PRIORITY: lambda stream_id, _, payload: frames.read_priority(stream_id, payload),
    FrameType.RST_STREAM: lambda stream_id, _, payload: frames.read_rst_stream(stream_id, payload),
    FrameType.SETTINGS: settings.parse,
    FrameType.PING: lambda stream_id, _, payload: frames.read_ping(stream_id, payload),
    FrameType.GOAWAY: lambda stream_id, _, payload: frames.read_goaway(stream_id, payload),
    FrameType.WINDOW_UPDATE: lambda stream_id, _, payload: frames.read_window_update(stream_id, payload),
    FrameType.CONTINUATION: lambda stream_id, _, payload: frames.read_continuation(stream_id, payload),
}


def frame_payload(data: bytes) -> None:
    """Type, flags, stream, payload: read, or a fault of that stream or of the connection."""
    kind, flags, stream_id = data[:1], data[1:2], int.from_bytes(data[2:3], "big")
    if not flags or kind[0] not in READERS:
        return
    try:
        found = READERS[kind[0]](stream_id, flags[0], data[3:])
    except ConnectionFault:
        return
    except StreamFault as fault:
        blamed = fault.stream_id
    else:
        _belongs(kind[0], found, data[3:])
        return
    assert stream_id == blamed != 0


def _belongs(kind: int, found: object, payload: bytes) -> None:
    """What was read is part of what there was."""
    if kind in (FrameType.DATA, FrameType.HEADERS, FrameType.CONTINUATION):
        assert isinstance(found, bytes)
        assert found in payload
    if kind == FrameType.SETTINGS:
        assert isinstance(found, list)
        assert len(payload) == 6 * len(found)


def message_stream(data: bytes) -> None:
    """Pieces of a stream: the same messages as byte by byte, then unpacked or refused."""
    parts = [*pieces(data)]
    splitter = messages.Splitter(MESSAGE_BYTES_MAX)
    singles = messages.Splitter(MESSAGE_BYTES_MAX)
    for part in parts:
        found, fault = _fed(splitter, [part])
        singly, same_fault = _fed(singles, [bytes((octet,)) for octet in part])
        assert fault is same_fault
        if fault is not None:
            return
        assert found == singly
        assert splitter.partial == singles.partial
        for flag, payload in found:
            assert len(payload) <= MESSAGE_BYTES_MAX
            try:
                plain = messages.unpack(flag, payload, b"gzip", MESSAGE_BYTES_MAX)
            except messages.MessageFault:
                continue
            assert len(plain) <= MESSAGE_BYTES_MAX
            assert messages.decompress(messages.compress(plain), MESSAGE_BYTES_MAX) == plain


def _fed(
    splitter: messages.Splitter, parts: list[bytes]
) -> tuple[list[tuple[int, bytes]], StatusCode | None]:
    found: list[tuple[int, bytes]] = []
    try:
        for part in parts:
            found += splitter.feed(part)
    except messages.MessageFault as fault:
        return found, fault.code
    return found, None


def metadata_fields(data: bytes) -> None:
    """Names and values in turn: told and sent again, or refused; timeouts, messages and statuses are read."""
    parts = [*pieces(data)]
    fields = [*zip(parts[::2], parts[1::2], strict=False)]
    for _, value in fields:
        _read_values(value)
    assert metadata.read_status(fields) is None or metadata.read_status(fields)[0] in metadata.CODES
    try:
        told = metadata.from_fields(fields)
        again = metadata.to_fields(told)
    except metadata.MetadataFault:
        return
    assert metadata.from_fields(again) == tuple(
        (key, value.strip(" ") if isinstance(value, str) else value) for key, value in told
    )


def _read_values(value: bytes) -> None:
    text = metadata.decode_message(value)
    if len(metadata.encode_message(text)) < metadata.MESSAGE_BYTES_MAX:
        assert metadata.decode_message(metadata.encode_message(text)) == text
    try:
        seconds = metadata.decode_timeout(value)
    except metadata.MetadataFault:
        return
    assert metadata.decode_timeout(metadata.encode_timeout(seconds)) >= seconds


def request_head(data: bytes) -> None:
    """Names and values of a request's header list: read, refused by a status, or malformed."""
    parts = [*pieces(data)]
    ready = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/b")] if data[:1] < b"\x08" else []
    try:
        head = Head([*ready, *zip(parts[::2], parts[1::2], strict=False)])
    except Malformed:
        return
    assert head.path
    for name, value in head.refusal or ():
        assert b"\n" not in name + value
