"""Jobs that are alike but for their ids, payloads and keys: what they share is checked and packed once.

A JobSpec in bytes is its id, then what a kind of jobs shares, then payload and key. So what is shared is one
piece of those bytes, and names the kind. The envelope of the next one of that kind is put together from the
kind's own piece and what differs, without a message being made for it. The wire format allows that: a
message's fields may come in any order (protobuf.dev, Encoding).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from weft.jobs.v1.job_pb2 import Envelope, Priority
from weft.queue.v1.spec_pb2 import JobSpec

KINDS_MAX = 1_000  # That are known at a time; others are checked and packed one by one.
ALIKE_BYTES_MAX = 65_536  # Of payloads; beyond it to look is no cheaper than to check.
KEY_CHARS_MAX = 50  # Of keys that are looked at here: four bytes each are within what the contract allows.
ID_HEAD = b"\n$"  # Field 1 and the length of an id, of both messages.
ID_END = 2 + 36
DATA = 0x0A  # Field 1 of a Payload.
SPEC_PAYLOAD, SPEC_KEY = b"z", b"\x82\x01"
PAYLOAD, KEY, CREATED, TRACE, ENQUEUER = b"B", b":", b"b", b"z", b"\x82\x01"  # Fields of an Envelope.
DIFFERENT = ("job_id", "payload", "key", "create_time", "trace", "enqueuer")
OF_ONE = ("due_time", "delay", "expire_time")  # Times: no two jobs share them.


def varint(number: int) -> bytes:
    """As lengths are written."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


SHORT = [varint(number) for number in range(1_024)]


def field(tag: bytes, data: bytes) -> bytes:
    """A field of bytes, with its length."""
    size = len(data)
    return tag + (SHORT[size] if size < len(SHORT) else varint(size)) + data


class Parts(NamedTuple):
    """A job in bytes, taken apart."""

    kind: tuple[bytes, bytes]  # What it shares with others: of the job, of its payload.
    payload: bytes
    key: bytes


class Kind(NamedTuple):
    """What is known of jobs of a kind."""

    queue: str
    priority: Priority.ValueType
    shared: bytes  # Of their envelopes.


def parts(job: JobSpec) -> Parts | None:
    """None for a job that is to be looked at by itself."""
    raw, payload, key = job.SerializeToString(), job.payload.SerializeToString(), job.key
    if len(payload) > ALIKE_BYTES_MAX or not raw.startswith(ID_HEAD):
        return None
    end = len(raw)
    name = b""
    if key:
        if len(key) > KEY_CHARS_MAX or not key.isprintable():
            return None
        name = key.encode()
        last = field(SPEC_KEY, name)
        if not raw.endswith(last):
            return None
        end -= len(last)
    last = field(SPEC_PAYLOAD, payload) if payload or job.HasField("payload") else b""
    if not raw.endswith(last, 0, end):
        return None
    return Parts((raw[ID_END : end - len(last)], payload[_data_end(payload) :]), payload, name)


def _data_end(payload: bytes) -> int:
    """Where the data of a payload ends, and what is about it begins."""
    if not payload or payload[0] != DATA:
        return 0
    size, shift, place = 0, 0, 1
    while payload[place] > 127:
        size |= (payload[place] & 127) << shift
        shift, place = shift + 7, place + 1
    return place + 1 + (size | payload[place] << shift)


def kind(job: JobSpec, made: Envelope) -> Kind | None:
    """What jobs like this one share; `made` is its own envelope. None: there is none like it."""
    if any(job.HasField(name) for name in OF_ONE):  # type: ignore[arg-type] # names of fields
        return None
    shared = Envelope()
    shared.CopyFrom(made)
    for name in DIFFERENT:
        shared.ClearField(name)  # type: ignore[arg-type]
    return Kind(made.queue, made.priority, shared.SerializeToString())


def about(created_s: float, trace: str, enqueuer: str) -> bytes:
    """What envelopes say of the moment in which they are made."""
    at = Envelope()
    at.create_time.seconds, at.create_time.nanos = divmod(int(created_s * 1e9), 1_000_000_000)
    said = at.SerializeToString() + _said(ENQUEUER, enqueuer)
    return said + field(TRACE, trace.encode()) if trace else said


@lru_cache(maxsize=1_000)
def _said(tag: bytes, text: str) -> bytes:
    return field(tag, text.encode()) if text else b""


def envelope(job_id: str, kind: Kind, parts: Parts, about: bytes) -> bytes:
    """The envelope in bytes."""
    key = field(KEY, parts.key) if parts.key else b""
    return b"".join((ID_HEAD, job_id.encode(), kind.shared, field(PAYLOAD, parts.payload), key, about))
