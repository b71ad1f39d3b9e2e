"""Every bound of a connection, with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one peer may use of us. Both sides of a connection have one."""

    message_bytes_max: int = 4 * 1024 * 1024  # gRPC's own default; larger things go by stream.
    header_list_bytes_max: int = 16_384  # Metadata is for small things; RFC 9113 §10.5.1.
    header_block_bytes_max: int = 32_768  # Compressed, over all CONTINUATIONs; more is not worth decoding.
    header_table_bytes_max: int = 4096  # RFC 9113 §6.5.2's default; a larger one saves little.
    frame_bytes_max: int = 16_384  # RFC 9113 §4.2's least; larger frames make streams wait for each other.
    continuations_max: int = 8  # Of a block; empty ones cost us and not the sender (CVE-2024-27316).

    # Flow control. A stream holds its window and one message, a connection what `unread_bytes_max` says.
    stream_window_bytes: int = 1024 * 1024  # A megabyte in half a millisecond is 16 Gbit/s.
    connection_window_bytes: int = 16 * 1024 * 1024  # Given back on arrival: no stream holds up the others.
    unread_bytes_max: int = 64 * 1024 * 1024  # Came and was not consumed, over all streams of a connection.
    pending_bytes_max: int = 256 * 1024 * 1024  # Messages that no window is open for: one more ends its call.
    unsent_bytes_max: int = 1024 * 1024  # In the socket's queue; who does not read further is not read.

    # Time, in seconds; None: no such bound.
    handshake_s: float = 10.0  # Until the peer's first SETTINGS, over TLS its handshake before.
    header_block_s: float = 10.0  # From HEADERS to the CONTINUATION that ends them.
    stalled_s: float = 60.0  # In which a peer took nothing: its socket full, or no window for a whole answer.
    linger_s: float = 1.0  # For a peer to read our GOAWAY before the connection is cut.
    keepalive_s: float | None = None  # Silence after which we ask the peer for a sign of life,
    keepalive_timeout_s: float = 20.0  # which must come within this (gRPC's default).
    keepalive_idle: bool = False  # Whether to ask while there is no call.

    # Floods: so many at once, and so many a second for ever. Work done earns them back.
    resets_max: int = 4_000  # By or because of the peer; a front end may drop all its calls at once, twice.
    resets_per_s: float = 100.0  # CVE-2023-44487 sent hundreds of thousands.
    idle_frames_max: int = 10_000  # SETTINGS, PING, PRIORITY, empty DATA, small WINDOW_UPDATE, unknown kinds.
    idle_frames_per_s: float = 1_000.0  # Each frame that we send earns two: honest peers answer frames.


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits(Limits):
    """What a server bounds besides."""

    streams_max: int = 2_000  # Calls of one connection: a front end multiplexes all its callers over a few.
    calls_max: int = 10_000  # Handlers of all connections, also those that take long to be cancelled.
    connections_max: int = 10_000  # Sockets; one more is cut at once.
    request_s: float = 60.0  # In which a unary request must be whole: slow senders hold a stream.
    idle_s: float | None = 900.0  # Without calls; the peer connects again when it needs to.
    age_s: float | None = None  # After which a connection is drained: load spreads to new servers.
    age_grace_s: float = 60.0  # That its calls are given then.
    ping_interval_s: float = 10.0  # Between a peer's PINGs while nothing is sent to it,
    ping_strikes_max: int = 2  # and how often it may be too early (gRPC's default).
    drain_ping_s: float = 1.0  # For the answer that shows that our first GOAWAY has arrived.
    sweep_s: float = 1.0  # How exactly idle connections and slow requests are found.
