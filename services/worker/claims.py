"""The journal of what a worker holds, kept where others can read it when the worker can no longer be asked.

Each list of messages that comes is one claim: a message of the stream `jobs-claims`, sent before the
first of them begins, with the subjects by which they are acknowledged. When all of a list is out of hand its
place is used by a later list; nothing is deleted on the way. So a claim may name messages that are done: to
give these back changes nothing.
"""

import logging
from collections.abc import Sequence

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.protocol import publication, subject
from services.chassis.jetstream.pulling import Delivery as Message
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs.subjects import CLAIMED, CLAIMS

CLAIM_MAX = 2_000  # Messages in one claim: 200 KB, far from what NATS lets through.
PLACES_MAX = 1_000  # Claims of one worker: as many as can be read in one request.
HERE = "here"  # A claim of nothing, by which others see that the worker is there.

log = logging.getLogger("weft.worker")


def claimed(worker: str, place: str) -> str:
    """The subject of one claim."""
    return f"{CLAIMED}.{worker}.{place}"


async def claimants(connection: Connection) -> set[str]:
    """All workers that claim something. Raises a JetStreamError or TimeoutError."""
    said = await connection.api(f"STREAM.INFO.{CLAIMS}", {"subjects_filter": f"{CLAIMED}.>"})
    return {each.split(".")[2] for each in said["state"].get("subjects") or {}}


class Journal:
    """What one worker holds. Nothing waits for it; what is not heard is found by the wait for its ack."""

    def __init__(self, connection: Connection, worker: str) -> None:
        self._connection, self._worker = connection, worker
        self._claims: dict[int, dict[int, bytes]] = {}  # By place: by sequence, where it is acknowledged.
        self._places: dict[int, int] = {}  # By sequence.
        self._free: list[int] = []
        self._off = connection.on_connect(self._again)
        self._write(HERE, b"")

    def took(self, messages: Sequence[Message]) -> None:
        """Claims them; a message that came before is claimed by its latest delivery."""
        for first in range(0, len(messages), CLAIM_MAX):
            self._claim(messages[first : first + CLAIM_MAX])

    def _claim(self, messages: Sequence[Message]) -> None:
        self.gave(messages)
        place = self._place()
        claim = self._claims.setdefault(place, {})
        replies = {message.sequence: message.reply for message in messages}
        claim.update(replies)
        self._places.update(dict.fromkeys(replies, place))
        self._write(str(place), b"\n".join(claim.values()))

    def _place(self) -> int:
        """A free one; of too many with something left in each, the one with the least."""
        if self._free:
            return self._free.pop()
        if len(self._claims) < PLACES_MAX:
            return len(self._claims)
        return min(self._claims, key=lambda place: len(self._claims[place]))

    def gave(self, messages: Sequence[Message]) -> None:
        """They are out of hand."""
        for message in messages:
            place = self._places.pop(message.sequence, None)
            if place is None:
                continue
            claim = self._claims[place]
            del claim[message.sequence]
            if not claim:
                self._free.append(place)

    def _write(self, place: str, payload: bytes) -> None:
        try:
            self._connection.write(publication(subject(claimed(self._worker, place)), b"", b"", payload))
        except JetStreamError as error:
            log.info("a claim was not heard: %s", type(error).__name__)

    def _again(self) -> None:
        """What was written while no server was there is not known to it."""
        self._write(HERE, b"")
        for place, replies in self._claims.items():
            if replies:
                self._write(str(place), b"\n".join(replies.values()))

    async def close(self) -> None:
        """Nothing is held any more."""
        self._off()
        try:
            await Stream(self._connection, CLAIMS).purge(claimed(self._worker, ">"))
        except (JetStreamError, TimeoutError) as error:
            log.info("claims stay until they are too old: %s", type(error).__name__)
