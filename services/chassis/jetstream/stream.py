"""A stream by sequence and by subject: reading, purging, deleting. It must allow direct gets."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, NamedTuple

from services.chassis.jetstream import headers as header
from services.chassis.jetstream.connection import REQUEST_S_MAX, Connection
from services.chassis.jetstream.errors import Refused
from services.chassis.jetstream.protocol import Message, publication

NOT_FOUND = 404
END = 204  # After the last of several.
PAGE = 500  # Messages read at once.
LASTS_MAX = 1_024  # Subjects; the server refuses to look for more at once.
NOT_DELETED = 10057  # For whatever cause, which only the description tells.


class Record(NamedTuple):
    """A message as the stream keeps it."""

    subject: str
    sequence: int
    at: str  # RFC 3339, with nanoseconds.
    headers: dict[str, str]  # Those of the publisher.
    payload: bytes


class Stream:
    """One stream, by its name."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self._name = connection, name

    async def get(self, sequence: int) -> Record | None:
        """The message of that sequence; None when there is none (any more)."""
        return _record(
            await self._connection.request(f"$JS.API.DIRECT.GET.{self._name}", b'{"seq":%d}' % sequence)
        )

    async def last(self, subject: str) -> Record | None:
        """The latest message of that subject."""
        return _record(await self._connection.request(f"$JS.API.DIRECT.GET.{self._name}.{subject}"))

    async def lasts(self, subjects: str) -> list[Record]:
        """The latest message of each subject that fits, of at most LASTS_MAX. Raises Refused for more."""
        body = json.dumps({"multi_last": [subjects], "batch": LASTS_MAX}).encode()
        to = f"$JS.API.DIRECT.GET.{self._name}".encode()
        answers = await self._connection.link.ask(
            lambda inbox: publication(to, inbox, b"", body), REQUEST_S_MAX, answers=LASTS_MAX + 1
        )
        kept = [answer for answer in answers if header.status(answer.head) != END]
        return [record for answer in kept if (record := _record(answer))]

    async def since(self, at: datetime) -> AsyncIterator[Record]:
        """All messages from that time on, in order, read in pages; what comes meanwhile may be missed."""
        to = f"$JS.API.DIRECT.GET.{self._name}".encode()
        start: dict[str, Any] = {"start_time": at.isoformat()}
        while True:
            body = json.dumps({**start, "next_by_subj": ">", "batch": PAGE}).encode()
            answers = await self._connection.link.ask(
                lambda inbox, body=body: publication(to, inbox, b"", body),  # type: ignore[misc]
                REQUEST_S_MAX,
                answers=PAGE + 1,
            )
            records = [
                record for each in answers if header.status(each.head) != END and (record := _record(each))
            ]
            for record in records:
                yield record
            if len(records) < PAGE:
                return
            start = {"seq": records[-1].sequence + 1}

    async def purge(self, subject: str, before: int = 0) -> int:
        """Deletes what is below the sequence `before` (0: all) of that subject. Returns how many it was."""
        body: dict[str, Any] = {"filter": subject}
        if before:
            body["seq"] = before
        said = await self._connection.api(f"STREAM.PURGE.{self._name}", body)
        purged: int = said["purged"]
        return purged

    async def delete(self, sequence: int) -> bool:
        """Deletes one message, not overwriting it. Returns whether it was there."""
        try:
            await self._connection.api(f"STREAM.MSG.DELETE.{self._name}", {"seq": sequence, "no_erase": True})
        except Refused as refused:
            if refused.err_code == NOT_DELETED and "no message" in refused.description:
                return False
            raise
        return True


def _record(message: Message) -> Record | None:
    code = header.status(message.head)
    if code == NOT_FOUND:
        return None
    if code:
        raise Refused(code, 0, message.head.partition(b"\r\n")[0].decode(errors="replace"))
    facts = header.decode(message.head)
    own = {name: value for name, value in facts.items() if name not in TOLD}
    return Record(
        facts["Nats-Subject"], int(facts["Nats-Sequence"]), facts["Nats-Time-Stamp"], own, message.payload
    )


# Headers that the server adds to what it reads.
TOLD = {"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Num-Pending"}
