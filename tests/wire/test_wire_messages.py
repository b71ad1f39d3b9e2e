"""Messages arrive whole however their bytes are split; none is larger than the bound, packed or unpacked."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable
from time import monotonic

import pytest
from grpc import StatusCode
from hypothesis import given, settings, strategies as st

from services.chassis.wire.messages import (
    PREFIX_BYTES,
    MessageFault,
    Splitter,
    compress,
    decompress,
    pack,
    unpack,
)

SLOW_S = 60  # Of a slow form: a hundred thousand streams and more.
BYTES_MAX = 1000


def split(chance: random.Random, octets: bytes) -> list[bytes]:
    """Pieces of any sizes, some of them empty, some of a byte."""
    pieces = []
    while octets:
        size = chance.choice((0, 1, 1, 2, 4, 5, 6, 17, 300, len(octets)))
        pieces.append(octets[:size])
        octets = octets[size:]
    return pieces


def messages_arrive_whole(chance: random.Random) -> int:
    """And `partial` tells at each moment whether one has begun."""
    sent = [
        (chance.randrange(2), chance.randbytes(chance.choice((0, 0, 1, 5, 40, BYTES_MAX))))
        for _ in range(chance.randrange(8))
    ]
    octets = b"".join(pack(payload, bool(flag)) for flag, payload in sent)
    ends, at = {0}, 0
    for _, payload in sent:
        at += PREFIX_BYTES + len(payload)
        ends.add(at)
    splitter, found, at = Splitter(BYTES_MAX), [], 0
    for piece in split(chance, octets):
        found += splitter.feed(piece)
        at += len(piece)
        assert splitter.partial == (at not in ends)
        assert len(found) == len([end for end in ends if 0 < end <= at])
    assert found == sent
    assert all(type(payload) is bytes for _, payload in found)
    return 1


def noise_is_split_alike(chance: random.Random) -> int:
    """The end is the same in any pieces; with a fault, messages before it in its own piece are lost."""
    octets = bytes(octet % 3 if chance.random() < 0.8 else octet for octet in chance.randbytes(60))
    every, end = fed([bytes([octet]) for octet in octets])
    found, same_end = fed(split(chance, octets))
    assert end == same_end, octets.hex()
    assert found == every[: len(found)], octets.hex()
    assert len(found) == len(every) or isinstance(end, StatusCode), octets.hex()
    return 1


def fed(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], StatusCode | bool]:
    """The messages, and the fault after them, or whether a message has begun."""
    splitter, found = Splitter(20), list[tuple[int, bytes]]()
    for piece in pieces:
        try:
            found += splitter.feed(piece)
        except MessageFault as fault:
            return found, fault.code
    return found, splitter.partial


PROPERTIES = [messages_arrive_whole, noise_is_split_alike]
each_property = pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)


@each_property
@settings(max_examples=200, deadline=None)
@given(chance=st.randoms(use_true_random=True))
def test_it_holds(holds: Callable[[random.Random], int], chance: random.Random) -> None:
    holds(chance)


@pytest.mark.slow
@pytest.mark.timeout(2 * SLOW_S)
@each_property
def test_it_holds_for_long(
    holds: Callable[[random.Random], int], record_property: Callable[[str, object], None]
) -> None:
    seed, end, inputs = random.randrange(1 << 32), monotonic() + SLOW_S, 0
    while monotonic() < end:
        seed += 1
        try:
            inputs += holds(random.Random(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    record_property("inputs", inputs)


def refused(act: Callable[[], object]) -> StatusCode:
    with pytest.raises(MessageFault) as fault:
        act()
    return fault.value.code


def test_a_message_of_the_bound_arrives() -> None:
    assert Splitter(BYTES_MAX).feed(pack(b"x" * BYTES_MAX)) == [(0, b"x" * BYTES_MAX)]


def test_a_message_above_the_bound_is_refused_by_its_first_five_bytes() -> None:
    head = pack(b"x" * (BYTES_MAX + 1))[:PREFIX_BYTES]
    assert refused(lambda: Splitter(BYTES_MAX).feed(head)) is StatusCode.RESOURCE_EXHAUSTED
    assert refused(lambda: Splitter(BYTES_MAX).feed(b"\0\xff\xff\xff\xff")) is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("flag", [2, 3, 128, 255])
def test_a_compressed_flag_other_than_0_and_1_is_refused(flag: int) -> None:
    """Compressed-Flag: 0 / 1."""
    assert refused(lambda: Splitter(BYTES_MAX).feed(bytes([flag, 0, 0, 0, 0]))) is StatusCode.INTERNAL


def test_a_message_that_trickles_in_takes_its_own_size_and_not_forty_times_as_much() -> None:
    splitter, size = Splitter(1 << 20), 1 << 18
    octets = pack(bytes(size))
    pieces = [octets[at : at + 1] for at in range(len(octets) - 1)]
    tracemalloc.start()
    try:
        for piece in pieces:
            splitter.feed(piece)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * size
    assert splitter.feed(octets[-1:]) == [(0, bytes(size))]


@pytest.mark.parametrize("payload", [b"", b"a", b"abc" * 100, random.Random(1).randbytes(5000)])
def test_gzip_goes_both_ways(payload: bytes) -> None:
    assert decompress(compress(payload), len(payload)) == payload
    assert gzip.decompress(compress(payload)) == payload
    assert decompress(gzip.compress(payload), len(payload)) == payload


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    bomb = gzip.compress(bytes(100 << 20))
    assert len(bomb) < 150_000
    tracemalloc.start()
    try:
        assert refused(lambda: decompress(bomb, 1 << 20)) is StatusCode.RESOURCE_EXHAUSTED
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3 << 20


def test_a_decompressed_message_may_be_as_long_as_the_bound() -> None:
    assert decompress(compress(bytes(1000)), 1000) == bytes(1000)
    assert refused(lambda: decompress(compress(bytes(1001)), 1000)) is StatusCode.RESOURCE_EXHAUSTED
    assert decompress(compress(b""), 0) == b""


SMALL = gzip.compress(b"a message", mtime=0)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"not gzip",
        zlib.compress(b"a message"),
        SMALL[:-1],
        SMALL[:10],
        SMALL + b"\0",
        SMALL + SMALL,
        SMALL[:-8] + b"\0\0\0\0" + SMALL[-4:],
    ],
    ids=["empty", "noise", "zlib", "cut", "head", "garbage behind", "two members", "wrong checksum"],
)
def test_what_is_no_gzip_is_refused(wrong: bytes) -> None:
    assert refused(lambda: decompress(wrong, 1000)) is StatusCode.INTERNAL


def test_a_message_is_unpacked_as_its_flag_and_encoding_say() -> None:
    """The protocol document: a flag without an encoding is INTERNAL, an unknown encoding UNIMPLEMENTED."""
    assert unpack(0, b"plain", b"gzip", 100) == b"plain"
    assert unpack(1, compress(b"plain"), b"gzip", 100) == b"plain"
    for encoding in (None, b"identity"):
        assert refused(lambda encoding=encoding: unpack(1, b"", encoding, 100)) is StatusCode.INTERNAL
    assert refused(lambda: unpack(1, b"", b"snappy", 100)) is StatusCode.UNIMPLEMENTED
