"""Metadata, status and timeouts stand on the wire as gRPC's protocol document says, and come back so."""

from __future__ import annotations

import math
from base64 import b64encode

import pytest
from grpc import StatusCode
from hypothesis import example, given, strategies as st

from services.chassis.wire import metadata
from services.chassis.wire.errors import ErrorCode
from services.chassis.wire.metadata import MetadataFault, from_fields, to_fields

KEY_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz_-."
keys = st.text(KEY_LETTERS, min_size=1, max_size=20).filter(lambda key: key not in metadata.OWNED)
text_keys = keys.filter(lambda key: not key.endswith("-bin"))
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(
    lambda text: text.strip(" ")
)
pairs = st.one_of(
    st.tuples(text_keys, printable),
    st.tuples(keys.map(lambda key: f"{key}-bin"), st.binary(max_size=40)),
)


@given(st.lists(pairs, max_size=8))
def test_metadata_comes_back_as_it_went(sent: list[tuple[str, str | bytes]]) -> None:
    fields = to_fields(sent)
    assert from_fields([(b":path", b"/a/b"), (b"te", b"trailers"), *fields]) == tuple(sent)
    for name, value in fields:
        assert name == name.lower()
        assert all(0x20 <= octet < 0x7F for octet in value)
        assert b"=" not in value or not name.endswith(b"-bin")  # "implementations SHOULD emit un-padded".


@pytest.mark.parametrize("key", ["", "Upper", "a b", "a:b", ":path", "ключ", "a\n", "a/b", "a,b", "\x00"])
def test_a_key_of_other_characters_is_refused(key: str) -> None:
    with pytest.raises(MetadataFault, match="characters"):
        to_fields([(key, "value")])


@pytest.mark.parametrize("key", sorted(metadata.OWNED))
def test_a_key_of_the_protocol_is_refused_and_not_told(key: str) -> None:
    with pytest.raises(MetadataFault, match=f"{key}.*belongs"):
        to_fields([(key, "value")])
    assert from_fields([(key.encode(), b"value")]) == ()


def test_keys_of_grpc_that_applications_use_are_sent() -> None:
    """Status details and retry push-back start with the reserved grpc-, and are an application's to say."""
    names = ["grpc-status-details-bin", "grpc-retry-pushback-ms", "grpc-previous-rpc-attempts", "user-agent"]
    assert [name for name, _ in to_fields([(name, "1") for name in names])] == [
        name.encode() for name in names
    ]


@pytest.mark.parametrize("value", ["a\nb", "a\0", "é", "\x7f", "\t", b"\xff", "a\u2028"])
def test_a_value_of_other_characters_is_refused_unless_its_key_says_so(value: str | bytes) -> None:
    with pytest.raises(MetadataFault, match=r"key 'plain'.*printable ASCII"):
        to_fields([("plain", value)])
    [(_, back)] = from_fields(to_fields([("plain-bin", value)]))
    assert back == (value.encode() if isinstance(value, str) else value)


def test_blanks_around_a_value_are_left_out() -> None:
    assert to_fields([("a", "  b c "), ("d", b" e")]) == [(b"a", b"b c"), (b"d", b"e")]


@given(st.binary(max_size=20))
def test_binary_values_are_taken_with_padding_and_without(octets: bytes) -> None:
    padded = b64encode(octets)
    for value in (padded, padded.rstrip(b"=")):
        assert from_fields([(b"a-bin", value)]) == (("a-bin", octets),)


@given(st.lists(st.binary(max_size=9), min_size=2, max_size=4))
def test_binary_values_joined_by_commas_are_several(values: list[bytes]) -> None:
    joined = b", ".join(b64encode(value).rstrip(b"=") for value in values)
    assert from_fields([(b"a-bin", joined)]) == tuple(("a-bin", value) for value in values)


@pytest.mark.parametrize("value", [b"?", b"A", b"AAAAA", b"AA=A", b"A A", b"\xff\xff", b"AA\n=="])
def test_a_binary_value_that_is_no_base64_is_refused(value: bytes) -> None:
    with pytest.raises(MetadataFault, match=r"a-bin.*base64"):
        from_fields([(b"a-bin", value)])


def test_a_value_that_no_application_may_say_is_thrown_away() -> None:
    assert from_fields([(b"a", b"caf\xc3\xa9 \xff"), (b"b", b"1\t2"), (b"c", b"3")]) == (("c", "3"),)


@given(st.text(max_size=60))
@example("100 % of nothing")
@example("Grüße, 世界 🌍\n\r\t")
@example("%41")
def test_a_message_comes_back_as_it_went(text: str) -> None:
    encoded = metadata.encode_message(text)
    assert metadata.decode_message(encoded) == text
    assert all(0x20 <= octet <= 0x7E for octet in encoded)


def test_a_message_is_encoded_as_in_the_document() -> None:
    assert metadata.encode_message("a%b ~\n") == b"a%25b ~%0A"
    assert metadata.encode_message("\N{EURO SIGN}") == b"%E2%82%AC"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"%", "%"),
        (b"50%", "50%"),
        (b"%G1x", "%G1x"),
        (b"%e2%82%ac", "\N{EURO SIGN}"),
        (b"%ff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_message_that_is_encoded_wrongly_is_not_lost(value: bytes, text: str) -> None:
    """ "They MUST NOT error or discard": what cannot be decoded stays as it is."""
    assert metadata.decode_message(value) == text


@pytest.mark.parametrize(
    "text", ["x" * 10_000_000, "\N{EURO SIGN}" * 10_000, "x" * 4095 + "\n", "x" * 4094 + "\n"]
)
def test_a_long_message_is_cut_off_between_characters(text: str) -> None:
    encoded = metadata.encode_message(text)
    assert metadata.MESSAGE_BYTES_MAX - 9 <= len(encoded) <= metadata.MESSAGE_BYTES_MAX
    decoded = metadata.decode_message(encoded)
    assert text.startswith(decoded.rstrip("\N{REPLACEMENT CHARACTER}"))


def test_a_message_with_half_a_character_is_sent() -> None:
    assert metadata.encode_message("a\ud800b") == b"a?b"


@given(st.floats(min_value=1e-9, max_value=3e11))
@example(0.1)
@example(5.0)
@example(1e-9)
@example(0.0999999999999)
@example(99.999999)
@example(100.0)
@example(99_999_999 * 3600.0)
def test_a_timeout_is_never_shorter_than_it_was_and_hardly_longer(seconds: float) -> None:
    value = metadata.encode_timeout(seconds)
    assert len(value) <= 9
    back = metadata.decode_timeout(value)
    # Eight digits: where one unit has too many, the next has five at least.
    assert (
        seconds <= back <= seconds * (1 + 1e-5) + 1e-9
    )  # 8 digits: the next unit begins at 10^5 of its own.


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (0.05, b"50000000n"),
        (0.1, b"100000u"),
        (60.0, b"60000000u"),
        (100.0, b"100000m"),
        (1e6, b"1000000S"),
        (0.0, b"1n"),
        (-3.0, b"1n"),
        (1e-15, b"1n"),
        (math.nan, b"1n"),
        (math.inf, b"99999999H"),
        (1e300, b"99999999H"),
    ],
)
def test_a_timeout_is_written_in_the_finest_unit_that_has_digits_for_it(seconds: float, value: bytes) -> None:
    assert metadata.encode_timeout(seconds) == value


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"0S", 0),
        (b"00000007S", 7),
    ],
)
def test_a_timeout_is_read_in_each_unit(value: bytes, seconds: float) -> None:
    assert metadata.decode_timeout(value) == seconds


@pytest.mark.parametrize(
    "value", [b"", b"1", b"S", b"123456789S", b"-1S", b"1.5S", b"1s", b" 1S", b"1S ", b"1S\n", b"\xb2S"]
)
def test_a_timeout_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(MetadataFault, match="grpc-timeout"):
        metadata.decode_timeout(value)


@pytest.mark.parametrize("code", metadata.CODES)
def test_each_status_comes_back_as_it_went(code: int) -> None:
    assert metadata.read_status(metadata.status_fields(code, "why: ü")) == (code, "why: ü")
    assert metadata.read_status(metadata.status_fields(code)) == (code, "")


@pytest.mark.parametrize("value", [b"17", b"99", b"-1", b"", b"OK", b"\xb2", b"1" * 5000])
def test_a_status_that_nobody_knows_is_unknown(value: bytes) -> None:
    assert metadata.read_status([(b"grpc-status", value), (b"grpc-message", b"m")]) == (2, "m")


def test_trailers_without_a_status_say_nothing() -> None:
    assert metadata.read_status([(b"grpc-message", b"m"), (b"a", b"b")]) is None


def test_http_statuses_mean_what_the_mapping_says() -> None:
    """gRPC's "HTTP to gRPC Status Code Mapping"."""
    expected = {
        400: StatusCode.INTERNAL,
        401: StatusCode.UNAUTHENTICATED,
        403: StatusCode.PERMISSION_DENIED,
        404: StatusCode.UNIMPLEMENTED,
        429: StatusCode.UNAVAILABLE,
        502: StatusCode.UNAVAILABLE,
        503: StatusCode.UNAVAILABLE,
        504: StatusCode.UNAVAILABLE,
    }
    for status in (*expected, 200, 204, 301, 405, 500, 599):
        assert metadata.code_of_http_status(status) is expected.get(status, StatusCode.UNKNOWN)


def test_resets_mean_what_the_document_says() -> None:
    """The protocol document, "Errors"."""
    expected = {
        ErrorCode.REFUSED_STREAM: StatusCode.UNAVAILABLE,
        ErrorCode.CANCEL: StatusCode.CANCELLED,
        ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
        ErrorCode.INADEQUATE_SECURITY: StatusCode.PERMISSION_DENIED,
    }
    for code in (*ErrorCode, 0xFF):
        assert metadata.code_of_reset(code) is expected.get(code, StatusCode.INTERNAL)
