"""What the rpcs of the catalog share."""

from dataclasses import dataclass

from services.catalog.writing import Writing
from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.host import Tools
from services.chassis.method import Call
from services.chassis.modes import Modes

READ_ALL = "catalog.products.read"  # Who may read drafts.


@dataclass(frozen=True)
class Shared:
    """One for the whole service."""

    db: Database
    clock: Clock
    page_key: str
    writing: Writing
    modes: Modes

    @classmethod
    def of(cls, tools: Tools) -> "Shared":
        return cls(tools.db, tools.clock, tools.settings.mesh_key, Writing(tools.db), tools.modes)


def reads_all(call: Call) -> bool:
    """Whether the caller may see what is not for sale yet."""
    return call.caller.can(READ_ALL)
