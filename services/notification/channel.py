"""What a way to reach people has to be able to do. E-mail is the first (smtp.py)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from services.notification.catalogue import Template


class Result(StrEnum):
    """How an attempt ended."""

    SENT = "SENT"
    MAY_PASS = "MAY_PASS"  # Try again later.
    REFUSED = "REFUSED"  # This message will never be taken.
    UNREACHABLE = "UNREACHABLE"  # No message to this address will ever be taken.


@dataclass(frozen=True)
class Outcome:
    """What the provider answered."""

    result: Result
    code: int = 0  # 0: no answer came.
    status: str = ""  # Enhanced status code (RFC 3463).
    reply: str = ""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """All that one attempt needs."""

    message_id: UUID
    number: int  # Of the attempt.
    template: Template
    values: Mapping[str, str]
    address: str
    locale: str
    time_zone: str
    accepted_at: datetime


class Channel(Protocol):
    """A way to reach people."""

    def address(self, raw: str) -> str:
        """The address as it is used. Raises BadAddress."""
        ...

    async def send(self, delivery: Delivery) -> Outcome:
        """One attempt. Ends within the lease; raises nothing that another attempt could heal."""
        ...

    async def close(self) -> None: ...
