"""Entries, each sealing the one before it; anchors, signed over the last."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.errors import NotFound

CHAIN = "main"
FIRST_PREVIOUS = bytes(32)
ENTRY_LABEL, ANCHOR_LABEL = b"weft.audit.v1.Entry", b"weft.audit.v1.Anchor"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UnknownEntry(NotFound):
    """There is no entry {sequence}."""


class Row(DeclarativeBase):
    """A row of this service's database."""

    type_annotation_map = {datetime: DateTime(timezone=True), str: Text}  # noqa: RUF012


class Entry(Row):
    """One event, sealed."""

    __tablename__ = "entry"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    event_id: Mapped[UUID]
    service: Mapped[str]
    type: Mapped[str]
    key: Mapped[str]
    subject_id: Mapped[str]
    actor: Mapped[str]
    acting: Mapped[str]
    trace: Mapped[str]
    causation: Mapped[str]
    event_time: Mapped[datetime]
    version: Mapped[int] = mapped_column(BigInteger)
    schema_version: Mapped[int]
    payload: Mapped[bytes]
    payload_hash: Mapped[bytes]
    previous_hash: Mapped[bytes]
    hash: Mapped[bytes]

    def sealed(self, sequence: int | None = None) -> bytes:
        """The hash that these fields should have; at another position when `sequence` is given."""
        texts = (
            str(self.event_id),
            self.service,
            self.type,
            self.key,
            self.subject_id,
            self.actor,
            self.acting,
            self.trace,
            self.causation,
        )
        parts = [ENTRY_LABEL, _integer(self.sequence if sequence is None else sequence), self.previous_hash]
        parts += map(_text, texts)
        parts += [_integer(microseconds(self.event_time)), _integer(self.version)]
        parts += [self.schema_version.to_bytes(4, "big"), hashlib.sha256(self.payload).digest()]
        return hashlib.sha256(b"".join(parts)).digest()

    def seal(self) -> None:
        """Fills in both hashes."""
        self.payload_hash = hashlib.sha256(self.payload).digest()
        self.hash = self.sealed()

    @property
    def unedited(self) -> bool:
        """Whether the fields are the ones that were sealed."""
        return self.payload_hash == hashlib.sha256(self.payload).digest() and self.hash == self.sealed()


class Head(Row):
    """The end of the trail; whoever holds its lock may append."""

    __tablename__ = "head"
    chain: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]

    def append(self, entry: Entry) -> None:
        """Makes `entry` the new end: gives it its place and seals it."""
        entry.sequence, entry.previous_hash = self.sequence + 1, self.hash
        entry.seal()
        self.sequence, self.hash = entry.sequence, entry.hash


class Anchor(Row):
    """A signature over the head at some time."""

    __tablename__ = "anchor"
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[bytes]
    sign_time: Mapped[datetime]
    key_id: Mapped[str]
    signature: Mapped[bytes]

    def signed(self) -> bytes:
        """What the signature is over."""
        moment = _integer(microseconds(self.sign_time))
        return ANCHOR_LABEL + _integer(self.sequence) + self.hash + moment


def microseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def _integer(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(4, "big") + raw
