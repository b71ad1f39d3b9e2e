"""The Huffman code of header strings (RFC 7541 §5.2, Appendix B)."""

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


def _codes() -> dict[int, str]:
    """Each symbol's code, as a string of bits."""
    codes, code, length = {}, 0, 0
    for bits, symbols in SYMBOLS_BY_BITS.items():
        code, length = code << bits - length, bits
        for symbol in symbols:
            codes[symbol] = f"{code:0{bits}b}"
            code += 1
    return codes


CODES = _codes()
_SYMBOLS = {code: symbol for symbol, code in CODES.items()}


def encode(text: bytes) -> bytes:
    """The code of each byte, padded with ones to a whole byte."""
    bits = "".join(map(CODES.__getitem__, text))
    bits += "1" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def decode(coded: bytes) -> bytes:
    """Raises ConnectionFault(COMPRESSION_ERROR) for EOS and for padding that is long or not of ones."""
    text, code = bytearray(), ""
    for bit in f"{int.from_bytes(coded, 'big'):0{8 * len(coded)}b}" if coded else "":
        code += bit
        if code in _SYMBOLS:
            text.append(_SYMBOLS[code])
            code = ""
    if len(code) > 7 or "0" in code:
        raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a Huffman string has a wrong end")
    return bytes(text)
