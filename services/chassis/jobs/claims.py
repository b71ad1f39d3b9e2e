"""The journal of what a worker holds, kept where others can read it when the worker can no longer be asked.

Each list of messages that comes is one claim: a message of the stream `jobs-claims`, sent before the
first of them begins, with the subjects by which they are acknowledged. When all of a list is out of hand its
place is used by a later list; nothing is deleted on the way. So a claim may name messages that are done: to
give these back changes nothing.
"""

import logging
from collections.abc import Iterable, Sequence

from services.chassis.jetstream.connection import Connection
from services.chassis.jetstream.errors import JetStreamError
from services.chassis.jetstream.protocol import publication, subject
from services.chassis.jetstream.pulling import Delivery as Message, Place
from services.chassis.jetstream.stream import Stream
from services.chassis.jobs.subjects import CLAIMED, CLAIMS

CLAIM_MAX = 2_000  # Messages in one claim: 200 KB, far from what NATS lets through.
PLACES_MAX = 1_000  # Claims of one worker: as many as can be read in one request.
HERE = "here"  # A claim of nothing, by which others see that the worker is there.

log = logging.getLogger("weft.jobs")


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
        self._said: dict[int, bytes] = {}  # By place, as it was written; some of it may be done.
        self._left: dict[int, int] = {}  # By place: how many messages of it are held.
        self._places: dict[int, int] = {}  # By sequence.
        self._free: list[int] = []
        self._off = connection.on_connect(self._again)
        self._write(HERE, b"")

    def took(self, messages: Sequence[Message]) -> None:
        """Claims them; a message that came before is claimed by its latest delivery."""
        for first in range(0, len(messages), CLAIM_MAX):
            self._claim(messages[first : first + CLAIM_MAX])

    def _claim(self, messages: Sequence[Message]) -> None:
        latest = {message.sequence: message for message in messages}
        if not latest.keys().isdisjoint(self._places.keys()):
            self.gave(messages)
        place = self._place()
        said = b"\n".join([message.reply for message in latest.values()])
        if self._left.get(place):
            said = b"\n".join([*self._held(place), said])
        self._said[place] = said
        self._left[place] = self._left.get(place, 0) + len(latest)
        self._places.update(dict.fromkeys(latest, place))
        self._write(str(place), said)

    def _place(self) -> int:
        """A free one; of too many with something left in each, the one with the least."""
        if self._free:
            return self._free.pop()
        if len(self._left) < PLACES_MAX:
            return len(self._left)
        return min(self._left, key=self._left.__getitem__)

    def _held(self, place: int) -> list[bytes]:
        """Of what was written there: what is not out of hand."""
        said = self._said[place].split(b"\n")
        return [reply for reply in said if self._places.get(Place.of(reply).sequence) == place]

    def gave(self, messages: Iterable[Message]) -> None:
        """They are out of hand."""
        places, left = self._places, self._left
        for message in messages:
            place = places.pop(message.sequence, None)
            if place is None:
                continue
            left[place] -= 1
            if not left[place]:
                self._free.append(place)

    def _write(self, place: str, payload: bytes) -> None:
        try:
            self._connection.write(publication(subject(claimed(self._worker, place)), b"", b"", payload))
        except JetStreamError as error:
            log.info("a claim was not heard: %s", type(error).__name__)

    def _again(self) -> None:
        """What was written while no server was there is not known to it."""
        self._write(HERE, b"")
        for place, left in self._left.items():
            if left:
                self._write(str(place), self._said[place])

    async def close(self) -> None:
        """Nothing is held any more."""
        self._off()
        try:
            await Stream(self._connection, CLAIMS).purge(claimed(self._worker, ">"))
        except (JetStreamError, TimeoutError) as error:
            log.info("claims stay until they are too old: %s", type(error).__name__)
