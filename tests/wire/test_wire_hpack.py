"""HPACK by the letter of RFC 7541: its examples, its refusals, its bounds."""

from __future__ import annotations

import pytest

from services.chassis.wire import hpack
from services.chassis.wire.errors import ConnectionFault, ErrorCode, HeaderListTooLong
from services.chassis.wire.hpack import Decoder, Encoder, literal
from tests.wire import rfc7541_examples as rfc7541
from tests.wire.blocks import integer, string

FIRST_DYNAMIC = 62


def octets(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]


def table(decoder: Decoder) -> list[tuple[bytes, bytes]]:
    """Asked from outside: each index until one is not there."""
    found: list[tuple[bytes, bytes]] = []
    while True:
        try:
            found += decoder.decode(integer(FIRST_DYNAMIC + len(found), 7, 0x80))
        except ConnectionFault:
            return found


def refused(block: bytes, decoder: Decoder | None = None) -> str:
    with pytest.raises(ConnectionFault) as refusal:
        (decoder or Decoder()).decode(block)
    assert refusal.value.code is ErrorCode.COMPRESSION_ERROR
    return refusal.value.reason


@pytest.mark.parametrize("example", rfc7541.REPRESENTATIONS, ids=lambda example: example.section)
def test_each_representation_reads_as_in_appendix_c(example: rfc7541.Example) -> None:
    decoder = Decoder()
    assert decoder.decode(bytes.fromhex(example.block)) == octets(example.fields)
    assert table(decoder) == octets(example.table)


@pytest.mark.parametrize("section", rfc7541.SERIES)
def test_each_series_reads_as_in_appendix_c(section: str) -> None:
    decoder = Decoder()
    if rfc7541.TABLE_BYTES[section] != hpack.TABLE_BYTES:
        decoder.decode(integer(rfc7541.TABLE_BYTES[section], 5, 0x20))
    for example in rfc7541.SERIES[section]:
        assert decoder.decode(bytes.fromhex(example.block)) == octets(example.fields), example.section
        assert table(decoder) == octets(example.table), example.section


@pytest.mark.parametrize(
    ("value", "prefix_bits", "octets_"), [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")]
)
def test_integers_are_written_as_in_appendix_c(value: int, prefix_bits: int, octets_: str) -> None:
    assert integer(value, prefix_bits, 0).hex() == octets_
    assert hpack._write_integer(value, (1 << prefix_bits) - 1, 0).hex() == octets_


def test_an_index_of_zero_is_refused() -> None:
    assert "index 0" in refused(b"\x80")


@pytest.mark.parametrize("index", [62, 127, 128, 300, 1 << 27])
def test_an_index_beyond_the_table_is_refused(index: int) -> None:
    refused(integer(index, 7, 0x80))
    refused(integer(index, 6, 0x40) + string(b"v", False))


@pytest.mark.parametrize("most", [0x7F, 0x3F, 0x0F])
def test_an_integer_that_does_not_end_is_refused(most: int) -> None:
    first = {0x7F: 0xFF, 0x3F: 0x7F, 0x0F: 0x0F}[most]
    assert "too long" in refused(bytes([first]) + b"\x80" * 5 + b"\x00")
    assert "too long" in refused(bytes([first]) + b"\xff" * 9_000)
    refused(bytes([first, 0x80]))


def test_a_string_longer_than_its_block_is_refused() -> None:
    assert "within a string" in refused(b"\x00\x05a")
    assert "within a string" in refused(b"\x00\x01a\x7f\xff\xff\xff\x7f")


@pytest.mark.parametrize(
    ("coded", "why"),
    [
        ("00", "padding of zeros"),
        ("1fff", "padding of an octet"),
        ("ffff fffc", "EOS: thirty ones, and then what would be padding"),
        ("ffff ffff", "nothing but ones"),
        ("fe", "seven ones, and a zero"),
        ("fffe", "a code cut off"),
        ("ffff f0ff", "a long code cut off by padding"),
    ],
)
def test_a_huffman_string_with_a_wrong_end_is_refused(coded: str, why: str) -> None:
    text = bytes.fromhex(coded)
    assert "Huffman" in refused(b"\x00\x01a" + integer(len(text), 7, 0x80) + text), why


def test_a_size_update_comes_first_or_is_refused() -> None:
    assert "behind a field" in refused(b"\x82\x20")


def test_a_size_update_above_ours_is_refused() -> None:
    assert Decoder().decode(integer(4096, 5, 0x20)) == []
    refused(integer(4097, 5, 0x20))
    assert Decoder(table_bytes_max=8192).decode(integer(8192, 5, 0x20)) == []
    # A smaller one is not in force before the peer has heard of it.
    assert Decoder(table_bytes_max=0).decode(integer(4096, 5, 0x20)) == []


def test_a_larger_table_of_ours_is_larger_when_the_peer_says_so() -> None:
    """§4.2: a change is signalled; until then both sides have the default."""
    entry = b"\x40" + string(b"name", False) + string(b"x" * 1964, False)  # 2,000 bytes.
    decoder = Decoder(table_bytes_max=8192)
    decoder.decode(entry * 4)
    assert len(table(decoder)) == 2
    decoder.decode(integer(8192, 5, 0x20) + entry * 2)
    assert len(table(decoder)) == 4


def test_entries_leave_when_the_table_shrinks() -> None:
    decoder = Decoder()
    for number in range(4):
        decoder.decode(b"\x40" + string(b"name", False) + string(b"%d" % number, False))
    decoder.decode(integer(37 * 2, 5, 0x20))
    assert [value for _, value in table(decoder)] == [b"3", b"2"]
    decoder.decode(integer(0, 5, 0x20))
    assert table(decoder) == []


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40" + string(b"a", False) + string(b"b", False))
    field = (b"large", b"x" * 4096)
    assert decoder.decode(b"\x40" + string(field[0], False) + string(field[1], False)) == [field]
    assert table(decoder) == []


def test_an_entry_may_take_its_name_from_the_one_that_it_pushes_out() -> None:
    decoder = Decoder()
    decoder.decode(integer(40, 5, 0x20) + b"\x40" + string(b"name", False) + string(b"1", False))
    assert decoder.decode(integer(62, 6, 0x40) + string(b"2", False)) == [(b"name", b"2")]
    assert table(decoder) == [(b"name", b"2")]


def test_a_list_above_the_bound_is_refused_and_the_next_is_read() -> None:
    decoder = Decoder(list_bytes_max=1000)
    kept = b"\x40" + string(b"kept", False) + string(b"yes", False)
    many = kept + literal(b"n", b"x" * 400) * 3
    with pytest.raises(HeaderListTooLong):
        decoder.decode(many)
    assert decoder.decode(integer(62, 7, 0x80)) == [(b"kept", b"yes")]


def test_a_list_of_just_the_bound_is_read() -> None:
    size = 32 + 4 + 100
    block = literal(b"name", b"x" * 100)
    assert len(Decoder(list_bytes_max=3 * size).decode(block * 3)) == 3
    with pytest.raises(HeaderListTooLong):
        Decoder(list_bytes_max=3 * size - 1).decode(block * 3)


def test_a_small_block_does_not_become_a_large_list() -> None:
    """An entry of 4 KB, named four thousand times by an octet each, would be 16 MB."""
    decoder = Decoder()
    decoder.decode(b"\x40" + string(b"bomb", False) + string(b"x" * 4000, False))
    with pytest.raises(HeaderListTooLong):
        decoder.decode(integer(62, 7, 0x80) * 4000)


def test_a_block_that_is_known_is_not_mistaken_when_the_table_changes() -> None:
    decoder = Decoder()
    block = integer(62, 7, 0x80)
    for value in (b"1", b"2"):
        decoder.decode(b"\x40" + string(b"name", False) + string(value, False))
        assert decoder.decode(block) == [(b"name", value)]
        name_only = integer(62, 4, 0x00) + string(b"v", False)
        assert decoder.decode(name_only) == [(b"name", b"v")]
        decoder.decode(b"\x40" + string(b"other", False) + string(value, False))
        assert decoder.decode(block) == [(b"other", value)]
        assert decoder.decode(name_only) == [(b"other", b"v")]


def test_a_block_that_writes_the_table_writes_it_each_time() -> None:
    decoder = Decoder()
    block = b"\x40" + string(b"name", False) + string(b"value", False)
    assert decoder.decode(block) == decoder.decode(block) == [(b"name", b"value")]
    assert table(decoder) == [(b"name", b"value")] * 2


def test_many_different_blocks_do_not_fill_the_memory() -> None:
    decoder = Decoder()
    for number in range(5000):
        decoder.decode(literal(b"x-request-id", b"%036d" % number))
    assert len(decoder._known) <= hpack.KNOWN_BLOCKS_MAX
    for number in range(5000):
        decoder.decode(b"\x00\x01a" + string(b"%036d" % number, True))
    assert hpack._remembered.cache_info().currsize <= hpack.REPEATED_MAX


@pytest.mark.parametrize("name", sorted(hpack.NEVER_INDEXED))
def test_secrets_are_never_indexed(name: bytes) -> None:
    encoder = Encoder()
    first, again = encoder.encode([(name, b"secret")]), encoder.encode([(name, b"secret")])
    assert first == again
    assert first[0] & 0xF0 == 0x10
    decoder = Decoder()
    decoder.decode(first)
    assert table(decoder) == []


def test_what_is_said_again_is_said_in_an_octet() -> None:
    encoder = Encoder()
    fields = [(b":path", b"/weft.v1.Some/Call"), (b"user-agent", b"weft"), (b"te", b"trailers")]
    assert len(encoder.encode(fields)) > 30
    assert len(encoder.encode(fields)) == 3


def test_a_smaller_table_of_the_peer_is_obeyed_and_told() -> None:
    encoder, decoder = Encoder(), Decoder()
    fields = [(b"name-%d" % number, b"value") for number in range(50)]
    assert decoder.decode(encoder.encode(fields)) == fields
    encoder.table_bytes_max = 100
    encoder.table_bytes_max = 2000
    block = encoder.encode(fields)
    assert block.startswith(
        integer(100, 5, 0x20) + integer(2000, 5, 0x20)
    )  # §4.2: the smallest, then the last.
    assert decoder.decode(block) == fields
    encoder.table_bytes_max = 0
    assert decoder.decode(encoder.encode(fields)) == fields
    assert table(decoder) == []


def test_a_larger_table_of_the_peer_is_not_used() -> None:
    encoder = Encoder()
    encoder.table_bytes_max = 1 << 20
    assert encoder.table_bytes_max == hpack.TABLE_BYTES
    assert encoder.encode([]) == b""
