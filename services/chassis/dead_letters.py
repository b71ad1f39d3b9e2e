"""Events that a consumer gave up: listed, shown, and put back to just that consumer.

python -m services.chassis.dead_letters list [consumer]
python -m services.chassis.dead_letters show <number>
python -m services.chassis.dead_letters replay <number> | all [consumer]
"""

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from services.chassis.bus import DEAD, Bus
from services.chassis.config import Settings, load
from services.chassis.errors import CallFailed, NotFound, Refusal
from services.chassis.relay import HEADER, MSG_ID

DEAD_HEADER = "Weft-Dead"
LIST_MAX = 1_000  # More dead letters than a person reads at once.


class NoSuchDeadLetter(NotFound):
    """No dead letter has number {number}."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up, and why, each time."""

    number: int  # Its sequence in the stream `dead`.
    consumer: str
    stream: str
    subject: str
    attempts: int
    at: str
    reasons: list[str]  # Oldest first.
    header: str  # The envelope as it came.
    payload: bytes


async def bury(
    bus: Bus, consumer: str, message: Msg, error: BaseException, attempts: int, at: datetime
) -> None:
    """Stores `message` and the reason. Raises a NATS error; a repeat changes nothing."""
    metadata, headers = message.metadata, message.headers or {}
    before = json.loads(headers.get(DEAD_HEADER, "{}"))
    facts = {
        "consumer": consumer,
        "stream": metadata.stream,
        "subject": before.get("subject", message.subject),
        "attempts": attempts,
        "at": at.isoformat(timespec="seconds"),
        "reasons": [*before.get("reasons", []), reason(error)],
    }
    await bus.js.publish(
        f"{DEAD}.{consumer}",
        message.data,
        headers={
            MSG_ID: f"{consumer}:{metadata.stream}:{metadata.sequence.stream}",
            DEAD_HEADER: json.dumps(facts),
            HEADER: headers.get(HEADER, ""),
        },
    )


def reason(error: BaseException) -> str:
    """What went wrong, and where; of unforeseen errors no text, which could quote what it met."""
    if isinstance(error, Refusal):
        return error.reason()
    if isinstance(error, CallFailed):
        return f"{error.path} {error.reason or error.code}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + where


async def dead_letters(bus: Bus, consumer: str = "*") -> AsyncIterator[DeadLetter]:
    """The oldest LIST_MAX, of one consumer or of all."""
    number = 1
    for _ in range(LIST_MAX):
        try:
            message = await bus.js.get_msg(DEAD, seq=number, subject=f"{DEAD}.{consumer}", next=True)
        except NotFoundError:
            return
        yield _letter(message)
        number = (message.seq or 0) + 1


async def dead_letter(bus: Bus, number: int) -> DeadLetter:
    """Raises NoSuchDeadLetter."""
    try:
        return _letter(await bus.js.get_msg(DEAD, seq=number))
    except NotFoundError:
        raise NoSuchDeadLetter(number=number) from None


def _letter(message: Any) -> DeadLetter:
    headers = message.headers or {}
    facts = json.loads(headers[DEAD_HEADER])
    return DeadLetter(
        number=message.seq, header=headers.get(HEADER, ""), payload=message.data or b"", **facts
    )


async def replay(bus: Bus, number: int) -> None:
    """Puts the event back to the consumer that gave it up, and to no other. Raises NoSuchDeadLetter."""
    letter = await dead_letter(bus, number)
    facts = {"subject": letter.subject, "reasons": letter.reasons}
    key = letter.subject.rpartition(".")[2]
    await bus.js.publish(
        f"replay.{letter.stream}.{letter.consumer}.{key}",
        letter.payload,
        headers={
            MSG_ID: f"replay:{letter.consumer}:{number}",
            DEAD_HEADER: json.dumps(facts),
            HEADER: letter.header,
        },
    )
    await bus.js.delete_msg(DEAD, number)


async def replay_all(bus: Bus, consumer: str = "*") -> int:
    """Replays what is there now, oldest first. Returns how many."""
    numbers = [letter.number async for letter in dead_letters(bus, consumer)]
    for number in numbers:
        await replay(bus, number)
    return len(numbers)


async def _main(verb: str, *args: str) -> None:
    settings = load(Settings)
    bus = Bus(settings.nats_url, replicas=settings.nats_replicas)
    await bus.connect()
    try:
        await bus.ensure_dead()
        if verb == "list":
            async for letter in dead_letters(bus, *args):
                _say(
                    f"{letter.number}  {letter.at}  {letter.consumer}  {letter.subject}  {letter.reasons[-1]}"
                )
        elif verb == "show":
            shown = asdict(await dead_letter(bus, int(args[0])))
            shown["payload"] = shown["payload"].hex()
            _say(json.dumps(shown, indent=2))
        elif args[0] == "all":
            _say(f"{await replay_all(bus, *args[1:])} replayed")
        else:
            await replay(bus, int(args[0]))
    finally:
        await bus.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] not in (["list"], ["show"], ["replay"]):
        sys.exit(__doc__)
    asyncio.run(_main(*sys.argv[1:]))
