"""Configurations that clients refused."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.registry.domain.row import Row

MESSAGE_CHARS_MAX = 1_000  # Envoy names each resource that it refuses, which may be all of them.
NODE_CHARS_MAX = 200  # Whoever reaches the port may call itself anything.
REJECTIONS_MAX = 1_000  # For the same reason; the oldest go first.


class Rejection(Row):
    """What one client refused of one type, and has not accepted since."""

    __tablename__ = "rejection"
    rejection_id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[str]
    type_url: Mapped[str]
    version: Mapped[str]
    message: Mapped[str]
    times: Mapped[int] = mapped_column(BigInteger)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


@dataclass(frozen=True)
class Verdict:
    """What a client says to what it was sent."""

    type_url: str
    version: str
    message: str  # Empty: accepted.


def rejection_id(node_id: str, type_url: str) -> str:
    return hashlib.blake2s(f"{node_id}\0{type_url}".encode(), digest_size=16).hexdigest()


def readable(text: str, chars_max: int) -> str:
    """Of a stranger's text what can be stored and shown."""
    return "".join(char if char.isprintable() else " " for char in text[:chars_max])
