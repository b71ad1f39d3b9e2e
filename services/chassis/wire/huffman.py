"""The Huffman code of header strings (RFC 7541 §5.2, Appendix B): its decoder.

There is no encoder: whether a string is coded is the sender's choice, and ours are sent as they are.

DEFLATE (RFC 1951) can be told of nearly the same code, and zlib decodes twenty times faster than Python.
Both codes are canonical. DEFLATE takes codes of up to 15 bits: those of all printable ASCII but the
backslash. All longer ones begin with fifteen ones; in DEFLATE that is the end-of-block symbol. So zlib
decodes a string, and ones behind it as its end. What it cannot take so is rare or wrong: it is read by bits.
"""

import re
import zlib

from services.chassis.wire.errors import ConnectionFault, ErrorCode

# Appendix B lists a canonical code: symbols in order of length, then of value, are numbered upwards.
# So the lengths say it all.
SYMBOLS_BY_BITS = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe"
    b"\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7"
    b"\xbc\xbf\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d"
    b"\x1e\x1f\x7f\xdc\xf9",
    30: b"\n\r\x16",  # And EOS, the thirty ones.
}


def _codes() -> dict[str, int]:
    """Each code, as a string of bits, and its symbol."""
    symbols: dict[str, int] = {}
    code = length = 0
    for bits, each in SYMBOLS_BY_BITS.items():
        code, length = code << bits - length, bits
        for symbol in each:
            symbols[f"{code:0{bits}b}"] = symbol
            code += 1
    return symbols


def _pattern(codes: list[str]) -> str:
    """Matches any of `codes`, going left or right at each bit."""
    if codes == [""]:
        return ""
    tails = {bit: [code[1:] for code in codes if code[0] == bit] for bit in "01"}
    sides = [bit + _pattern(tail) for bit, tail in tails.items() if tail]
    return sides[0] if len(sides) == 1 else f"(?:{sides[0]}|{sides[1]})"


CODES = _codes()
CODE = re.compile(_pattern(list(CODES)))
PADDING = re.compile("1{0,7}")  # §5.2: the first bits of EOS, to the end of the octet.

DEFLATE_BITS_MAX = 15  # RFC 1951 §3.2.7, for literals.
END_OF_BLOCK = 256  # RFC 1951 §3.2.5.
LENGTHS_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)  # RFC 1951 §3.2.7.
# DEFLATE fills octets from the lowest bit up, RFC 7541 from the highest down.
MIRRORED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))
# The end of the block, and a zero. Were it a one, a string cut off one bit too soon could take a bit of the
# ending and still end.
ENDING = bytes((0b11111111, 0b01111111))


def _deflate_head() -> bytes:
    """What tells DEFLATE of the code: whole octets, so that strings can follow."""
    lengths = [0] * END_OF_BLOCK + [DEFLATE_BITS_MAX]
    for length, symbols in SYMBOLS_BY_BITS.items():
        for symbol in symbols if length <= DEFLATE_BITS_MAX else b"":
            lengths[symbol] = length
    lengths += [0, 0]  # Two codes for distances, unused.
    bits = "0100000000"  # A block with nothing in it: ten bits, to end with an octet.
    bits += "101"  # The last block, with codes of its own.
    bits += "00000100001111"  # Numbers, lowest bit first: 257 literals, 2 distances, 19 lengths below.
    bits += "".join("001" if length < 16 else "000" for length in LENGTHS_ORDER)  # Four bits for each length.
    bits += "".join(f"{length:04b}" for length in lengths)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


_primed = zlib.decompressobj(wbits=-DEFLATE_BITS_MAX)
_primed.decompress(_deflate_head())


def decode(coded: bytes) -> bytes:
    """Raises ConnectionFault(COMPRESSION_ERROR) for EOS, and for padding that is too long or not of ones."""
    text, rest = _inflate(coded)
    if rest == 0:
        return text
    # Of the ending there are left one bit and as many as the padding had: seven make an octet. More than
    # seven make one as well; but then the last octet is all padding, and without it the string ends too.
    if rest == 1 and (coded[-1] != 0xFF or _inflate(coded[:-1])[1] != 0):
        return text
    return _decode_bits(coded)


def _inflate(coded: bytes) -> tuple[bytes, int]:
    """The text up to the end of the block, and how many octets are left behind it; -1 if it has no end."""
    engine = _primed.copy()
    text = engine.decompress(coded.translate(MIRRORED) + ENDING)
    return text, len(engine.unused_data) if engine.eof else -1


def _decode_bits(coded: bytes) -> bytes:
    """No code begins another, so the first that fits is right."""
    bits = f"{int.from_bytes(coded, 'big'):0{8 * len(coded)}b}" if coded else ""
    codes = CODE.findall(bits)
    read = "".join(codes)
    if not bits.startswith(read) or not PADDING.fullmatch(bits, len(read)):
        raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a Huffman string does not end as it must")
    return bytes(map(CODES.__getitem__, codes))
