"""Everything that is fuzzed, by name. A target takes any bytes, and raises when a promise is broken."""

from __future__ import annotations

from collections.abc import Callable

from tests.wire.fuzz import calling, codecs, serving

TARGETS: dict[str, Callable[[bytes], None]] = {
    "header_blocks": codecs.header_blocks,
    "huffman_string": codecs.huffman_string,
    "frame_payload": codecs.frame_payload,
    "message_stream": codecs.message_stream,
    "metadata_fields": codecs.metadata_fields,
    "request_head": codecs.request_head,
    "server_bytes": serving.stream_of_bytes,
    "server_frames": serving.stream_of_frames,
    "client_frames": calling.answers,
}
ANY = "any"  # Of them, by the input's first octet.


def any_of_them(data: bytes) -> None:
    if data and data[0] < len(TARGETS):
        [*TARGETS.values()][data[0]](data[1:])
