"""What fuzzing has found wrong once, each by its name."""

from __future__ import annotations

import asyncio

from grpc import StatusCode

from services.chassis.wire import frames
from services.chassis.wire.client.attempt import Attempt
from services.chassis.wire.errors import ErrorCode
from services.chassis.wire.hpack import literal
from services.chassis.wire.messages import pack
from tests.wire.fuzz.calling import BLOCK, LIMITS, Asked, Peer
from tests.wire.fuzz.machine import LOOP

HEADERS = frames.headers(1, b"\x88" + literal(b"content-type", b"application/grpc"))
TRAILERS = frames.headers(1, literal(b"grpc-status", b"0"), end_stream=True)
NO_WINDOW = frames.settings({4: 0})


def called(peer: Peer, settings: bytes) -> Attempt:
    """A call whose messages are still to be sent."""
    peer.send(settings)
    peer.asked.append(Asked())
    attempt = Attempt(peer.client, peer.asked[-1])
    peer.client.open(attempt, BLOCK, None)
    LOOP.turn()
    return attempt


def give_up(peer: Peer, attempt: Attempt) -> None:
    """Whose call wants nothing more is not told of its end."""
    peer.asked.clear()
    attempt.give_up()


def test_a_message_to_a_stream_that_is_gone_is_not_kept() -> None:
    """It was queued for ever, and counted against what all streams of the connection may queue."""
    peer = Peer(slow=False)
    attempt = called(peer, NO_WINDOW)
    attempt.send_message(b"before")
    give_up(peer, attempt)
    attempt.send_message(b"after")
    assert peer.client.pending == 0
    peer.send(frames.window_update(0, 1000))
    peer.end()


def test_nothing_is_sent_on_a_stream_that_is_gone() -> None:
    peer = Peer(slow=False)
    attempt = called(peer, frames.settings({}))
    give_up(peer, attempt)
    LOOP.turn()
    written = len(peer.transport.written)
    attempt.send_message(b"after")
    attempt.send_end()
    LOOP.turn()
    assert len(peer.transport.written) == written
    peer.end()


def test_an_early_answer_frees_what_waits_to_be_sent() -> None:
    """It was forgotten, and its bytes were counted for ever."""
    peer = Peer(slow=False)
    attempt = called(peer, NO_WINDOW)
    attempt.send_message(b"never taken")
    assert peer.client.pending > 0
    peer.send(HEADERS + TRAILERS)
    assert peer.client.pending == 0
    peer.end()


def test_a_call_learns_that_too_much_waits_to_be_sent() -> None:
    """Its stream was reset, and the call was not told."""
    peer = Peer(slow=False)
    attempt = called(peer, NO_WINDOW)
    for _ in range(LIMITS.pending_bytes_max // 1000 + 1):
        attempt.send_message(b"x" * 1000)
    LOOP.turn()
    assert attempt.gone
    status = peer.asked[0].status
    assert status is not None
    assert status.code is StatusCode.RESOURCE_EXHAUSTED
    peer.end()


def test_a_reader_learns_that_the_answer_ended_within_a_message() -> None:
    """Both sides had ended the stream, so it was not reset, and its reader was not woken."""
    peer = Peer(slow=False)
    attempt = called(peer, frames.settings({}))
    attempt.send_end()
    reader = LOOP.create_task(attempt.read())
    LOOP.turn()
    peer.send(HEADERS + frames.data(1, pack(b"half")[:-1]) + TRAILERS)
    LOOP.turn()
    assert reader.done()
    assert isinstance(reader.exception(), ConnectionError)
    status = peer.asked[0].status
    assert status is not None
    assert status.code is StatusCode.INTERNAL
    peer.end()


def test_nothing_is_written_behind_the_end_of_a_connection() -> None:
    """Who heard of the end still reset its stream; asyncio raises when that is written."""
    peer = Peer(slow=False)
    attempt = called(peer, frames.settings({}))
    peer.send(frames.data(0, b""))  # On no stream: the connection ends.
    peer.client.reset(attempt.id, ErrorCode.CANCEL, late_frames=True)
    LOOP.turn()
    peer.end()
    assert not asyncio.all_tasks(LOOP)
