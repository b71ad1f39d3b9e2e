"""Header blocks of any shape that RFC 7541 allows, and some that it does not, without an encoder."""

from __future__ import annotations

from random import Random

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

Field = tuple[bytes, bytes]

HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
STATIC_ENTRIES = 61
NAMES = [
    b":path",
    b":status",
    b"te",
    b"grpc-timeout",
    b"x-request-id",
    b"authorization",
    b"cookie",
    b"a",
    b"",
]
VALUES = [b"", b"0", b"trailers", b"POST", b"/weft.v1.Some/Call", b"5S", b"\\ ~\x00", b"y" * 70, b"z" * 140]


def integer(value: int, prefix_bits: int, first: int) -> bytes:
    """RFC 7541 §5.1."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([first | value])
    octets, value = [first | most], value - most
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


def string(text: bytes, coded: bool) -> bytes:
    """§5.2."""
    octets = HUFFMAN.encode(text) if coded else text
    return integer(len(octets), 7, 0x80 if coded else 0) + octets


def some_text(chance: Random, known: list[bytes]) -> bytes:
    """Mostly what was there before; else printable, else anything, now and then long."""
    dice = chance.random()
    if dice < 0.6:
        return chance.choice(known)
    length = chance.randrange(300) if dice > 0.97 else chance.randrange(40)
    if dice < 0.9:
        return bytes(chance.randrange(0x20, 0x7F) for _ in range(length))
    return bytes(chance.randrange(256) for _ in range(length))


def some_field(chance: Random) -> Field:
    return some_text(chance, NAMES), some_text(chance, VALUES)


def some_index(chance: Random, entries: int) -> int:
    """Rarely one that is not there."""
    last = STATIC_ENTRIES + entries
    return (
        chance.choice((0, last + 1, last + 90, 1 << 20))
        if chance.random() < 0.005
        else chance.randint(1, last)
    )


def representation(chance: Random, entries: int) -> bytes:
    """§6.1, §6.2: any, of a table with about so many dynamic entries."""
    if chance.random() < 0.4:
        return integer(some_index(chance, entries), 7, 0x80)
    prefix_bits, first = chance.choice(((6, 0x40), (4, 0x00), (4, 0x10)))
    name, value = some_field(chance)
    coded = chance.random() < 0.5
    if chance.random() < 0.5:
        return integer(some_index(chance, entries), prefix_bits, first) + string(value, coded)
    return bytes([first]) + string(name, coded) + string(value, not coded)


def some_block(chance: Random, entries: int) -> bytes:
    """A block; in one of ten, size updates before (§6.3), and in some of these, one too large."""
    parts = []
    while chance.random() < 0.1:
        parts.append(
            integer(chance.choice((0, 31, 64, 200, 4096, 4097 if chance.random() < 0.1 else 90)), 5, 0x20)
        )
    parts += [representation(chance, entries) for _ in range(chance.randrange(10))]
    return b"".join(parts)


def damaged(chance: Random, block: bytes) -> bytes:
    """Cut off, with an octet changed, or with octets too many."""
    at = chance.randrange(len(block) + 1)
    match chance.randrange(4):
        case 0:
            return block[:at]
        case 1:
            return block[:at] + chance.randbytes(chance.randrange(1, 4)) + block[at:]
        case 2:
            return block[:at] + block[at + 1 :]
        case _:
            return block[:at] + bytes([chance.randrange(256)]) + block[at + 1 :]
