"""The examples of RFC 7541 Appendix C: blocks in order on one connection, their fields, the table after."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """`table` is the dynamic table after it, the newest entry first."""

    section: str
    block: str
    fields: list[tuple[str, str]]
    table: list[tuple[str, str]]


_AUTHORITY, _NO_CACHE = (":authority", "www.example.com"), ("cache-control", "no-cache")
_CUSTOM, _PRIVATE = ("custom-key", "custom-value"), ("cache-control", "private")
_DATE, _LATER = ("date", "Mon, 21 Oct 2013 20:13:21 GMT"), ("date", "Mon, 21 Oct 2013 20:13:22 GMT")
_LOCATION, _GZIP = ("location", "https://www.example.com"), ("content-encoding", "gzip")
_COOKIE = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
_GET, _HTTP, _ROOT = (":method", "GET"), (":scheme", "http"), (":path", "/")

_FIRST = [_GET, _HTTP, _ROOT, _AUTHORITY]
_SECOND = [*_FIRST, _NO_CACHE]
_THIRD = [_GET, (":scheme", "https"), (":path", "/index.html"), _AUTHORITY, _CUSTOM]
_FOUND = [(":status", "302"), _PRIVATE, _DATE, _LOCATION]
_MOVED = [(":status", "307"), _PRIVATE, _DATE, _LOCATION]
_GIVEN = [(":status", "200"), _PRIVATE, _LATER, _LOCATION, _GZIP, _COOKIE]

REQUEST_TABLES = [[_AUTHORITY], [_NO_CACHE, _AUTHORITY], [_CUSTOM, _NO_CACHE, _AUTHORITY]]
RESPONSE_TABLES = [
    [_LOCATION, _DATE, _PRIVATE, (":status", "302")],
    [(":status", "307"), _LOCATION, _DATE, _PRIVATE],
    [_COOKIE, _GZIP, _LATER],
]

# C.2: one representation each, on a connection of its own.
REPRESENTATIONS = [
    Example(
        "C.2.1",
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        [("custom-key", "custom-header")],
        [("custom-key", "custom-header")],
    ),
    Example("C.2.2", "040c 2f73 616d 706c 652f 7061 7468", [(":path", "/sample/path")], []),
    Example("C.2.3", "1008 7061 7373 776f 7264 0673 6563 7265 74", [("password", "secret")], []),
    Example("C.2.4", "82", [(":method", "GET")], []),
]


def _series(
    section: str, blocks: list[str], lists: list[list[tuple[str, str]]], tables: list
) -> list[Example]:
    numbered = enumerate(zip(blocks, lists, tables, strict=True), 1)
    return [Example(f"{section}.{number}", *parts) for number, parts in numbered]


# C.3 to C.6: table size (C.5 and C.6: 256), and three blocks each.
SERIES = {
    "C.3": _series(
        "C.3",
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [_FIRST, _SECOND, _THIRD],
        REQUEST_TABLES,
    ),
    "C.4": _series(
        "C.4",
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
        [_FIRST, _SECOND, _THIRD],
        REQUEST_TABLES,
    ),
    "C.5": _series(
        "C.5",
        [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a"
            "3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04"
            "677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49"
            "553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ],
        [_FOUND, _MOVED, _GIVEN],
        RESPONSE_TABLES,
    ),
    "C.6": _series(
        "C.6",
        [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e"
            "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7"
            "821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed"
            "4ee5 b106 3d50 07",
        ],
        [_FOUND, _MOVED, _GIVEN],
        RESPONSE_TABLES,
    ),
}
TABLE_BYTES = {"C.3": 4096, "C.4": 4096, "C.5": 256, "C.6": 256}
