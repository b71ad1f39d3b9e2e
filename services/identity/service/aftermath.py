"""Notes of failed sign-ins, written off the answer's path: its time must not tell whom it was about.

The count that locks an account is not among them: it commits before the answer.
"""

import asyncio
import logging
from dataclasses import dataclass

from google.protobuf.message import Message

from services.chassis.db import Database
from services.identity.service.journal import Entry, Journal

WAITING_MAX = 1_000  # Under a flood of guesses the newest are not noted: the lock has told of it by then.

log = logging.getLogger("weft.identity")


@dataclass(frozen=True, slots=True)
class Note:
    """An entry with its event."""

    entry: Entry
    event: Message


class Aftermath:
    """A bounded queue and the loop that empties it."""

    def __init__(self, db: Database, journal: Journal) -> None:
        self._db, self._journal = db, journal
        self._notes: asyncio.Queue[Note] = asyncio.Queue(WAITING_MAX)

    def note(self, entry: Entry, event: Message) -> None:
        try:
            self._notes.put_nowait(Note(entry, event))
        except asyncio.QueueFull:
            log.warning("a failed sign-in was not noted: too many wait")

    async def run(self) -> None:
        """For ever. A note that cannot be written waits for the database."""
        while True:
            note = await self._notes.get()
            try:
                async with self._db.transaction() as tx:
                    await self._journal.write(tx, note.entry, note.event)
            except BaseException:
                self.note(note.entry, note.event)
                raise
