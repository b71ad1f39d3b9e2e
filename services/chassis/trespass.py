"""Calls that a service has no right to make: counted, and told to the audit trail by the minute.

What was refused in a process's last minute is in its log and metric only, should the process end before it is
told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable

from services.chassis import telemetry
from services.chassis.access import SERVICE_CHARS_MAX
from services.chassis.clock import Clock
from services.chassis.db import Database, DatabaseAway, DatabaseBusy
from services.chassis.events import Provenance, emit, provenance
from weft.audit.v1.events_pb2 import CallsRefused

TELL_EVERY_S = 60.0  # However many calls are refused: one event for each caller and rpc.
KINDS_MAX = 1_000  # Callers with rpcs that a process tells apart: a stolen key can sign any name.
OTHERS = "others"

Kind = tuple[str, str]  # Who called what.

log = logging.getLogger("weft.rpc")


class Trespasses:
    """Of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._databases: dict[str, Database] = {}  # By gRPC service.
        self._known: set[Kind] = set()
        self._untold: Counter[Kind] = Counter()
        self._noted = asyncio.Event()

    def tell_in(self, db: Database, services: Iterable[str]) -> None:
        """Events of these gRPC services' refusals go out by this database."""
        self._databases |= dict.fromkeys(services, db)

    def note(self, caller: str, path: str) -> None:
        """Once for each call; `path` is such as `/weft.cart.v1.CartService/GetCart`."""
        kind = (caller[:SERVICE_CHARS_MAX], path.strip("/"))
        if kind not in self._known and len(self._known) >= KINDS_MAX:
            kind = (OTHERS, kind[1])
        elif kind not in self._known:
            self._known.add(kind)
            log.warning("a call is refused", extra={"facts": {"caller": kind[0], "rpc": kind[1]}})
        telemetry.TRESPASSES.labels(*kind).inc()
        self._untold[kind] += 1
        self._noted.set()

    async def run(self) -> None:
        """For ever. What it cannot tell while a database is away it tells a minute later."""
        while True:
            await self._noted.wait()
            await self._tell()
            await self._clock.sleep(TELL_EVERY_S)

    async def _tell(self) -> None:
        for (caller, rpc), calls in list(self._untold.items()):
            db = self._databases.get(rpc.split("/")[0])
            try:
                if db is not None:
                    provenance.set(Provenance(actor=f"service:{caller}"))
                    async with db.transaction() as tx:
                        await emit(tx, CallsRefused(caller=caller, rpc=rpc, calls=calls))
            except (DatabaseAway, DatabaseBusy):
                continue
            self._untold[caller, rpc] -= calls
        self._untold += Counter()  # Drops what is told.
        if not self._untold:
            self._noted.clear()
