"""Every bound of a connection, with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may use of us. Both sides of a connection have one."""

    message_bytes_max: int = 4 * 1024 * 1024  # gRPC's own default; larger things go by stream.
    header_list_bytes_max: int = 16_384  # Metadata is for small things; RFC 9113 §10.5.1.
    header_block_bytes_max: int = 32_768  # Compressed, over all CONTINUATIONs; more is not worth decoding.
    header_table_bytes_max: int = 4096  # RFC 9113 §6.5.2's default; a larger one saves little.
    frame_bytes_max: int = 16_384  # RFC 9113 §4.2's least; larger frames make streams wait for each other.
