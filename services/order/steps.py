"""What steps of all processes have in common."""

from collections.abc import Callable, Mapping
from typing import Any

from services.chassis.saga import Run

CALL_S = 35.0  # Payment gives its gateway 30 s.
LOOK_EVERY_S = 30.0  # A payment that waits is asked for; events come sooner.


async def nothing(run: Run) -> None:
    """It is done before the saga begins."""


def said(name: str) -> Callable[[Mapping[str, Any]], bool]:
    """A step for sagas whose data says so."""
    return lambda data: bool(data[name])
