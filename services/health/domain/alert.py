"""What people were told last, and what they are to be told now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Mapped, mapped_column

from services.health.domain.plan import WORSE, Mode
from services.health.domain.row import Row


class Alert(Row):
    """What was last told of one capability."""

    __tablename__ = "alert"
    capability: Mapped[str] = mapped_column(primary_key=True)
    mode: Mapped[str]
    at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class Heard:
    """A mode, and when it was told."""

    mode: Mode
    at: datetime


def news(
    modes: Mapping[str, Mode], heard: Mapping[str, Heard], now: datetime, quiet: timedelta
) -> dict[str, Mode]:
    """Modes that are to be told, by capability.

    What is worse than the last word is told at once, unless that word was a recovery of less than `quiet`
    ago; recovery waits for `quiet` too. So what flaps is told at most once in that time, and how it is then.
    """
    never = Heard(Mode.NORMAL, datetime.min.replace(tzinfo=now.tzinfo))
    due = {}
    for name, mode in modes.items():
        last = heard.get(name, never)
        worse = WORSE[mode] > WORSE[last.mode] and last.mode is not Mode.NORMAL
        if mode is not last.mode and (worse or now - last.at >= quiet):
            due[name] = mode
    return due
