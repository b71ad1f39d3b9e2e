"""The newest snapshot, for all streams of this process: made once a change, and not while nobody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.chassis.db import Database
from services.registry.domain.resource import Kind, View
from services.registry.domain.world import PLAIN, Policy, World, world
from services.registry.feed import Feed
from services.registry.service import pack, rules
from services.registry.store import fault as faults, instance as instances, state, traffic_policy as policies

if TYPE_CHECKING:
    from services.registry.domain.snapshot import Snapshot

LISTEN_S = 15.0  # How long it may go on for streams that have ended.
ONE_VIEW = "REPEATABLE READ"


class Board:
    """Keeps the last snapshot while the database is away."""

    def __init__(self, db: Database, feed: Feed, listener: str, plain: Policy = PLAIN) -> None:
        """`plain` is the policy of services that have none."""
        self._db, self._feed, self._listener, self._plain = db, feed, listener, plain
        self._followers: set[Callable[[], None]] = set()
        self._wanted = asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._kept = False  # The snapshot is, or was when the database was last there, the newest.

    def view(self, kind: Kind) -> View | None:
        """None until there is one."""
        return self._snapshot.views[kind] if self._snapshot and self._kept else None

    @contextmanager
    def following(self, changed: Callable[[], None]) -> Iterator[None]:
        """Calls `changed` whenever there is another view."""
        self._followers.add(changed)
        self._wanted.set()
        try:
            yield
        finally:
            self._followers.discard(changed)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wanted.wait()
            with self._feed.listening():
                revision = await self._make()
                while self._followers:
                    if await self._feed.beyond(revision, LISTEN_S):
                        revision = await self._make()
            self._kept = False
            self._wanted.clear()

    async def _make(self) -> int:
        """Reads anew. Returns the revision that is shown from then on."""
        from services.registry.domain.snapshot import snapshot  # A hundred modules of Envoy's API.

        seen = await self._read()
        # Beside the loop: the first one of a large mesh takes as long as many calls.
        self._snapshot = await asyncio.to_thread(snapshot, seen, self._listener, self._snapshot)
        self._kept = True
        for changed in list(self._followers):
            changed()
        return self._snapshot.revision

    async def _read(self) -> World:
        async with self._db.transaction(ONE_VIEW) as tx:
            revision = await state.at(tx)
            rows = await instances.endpoints(tx)
            kept = await policies.every(tx)
            made = await faults.every(tx)
        named = {each.service: rules.policy(each, self._plain) for each in kept}
        return world(revision, pack.endpoints(rows), named, rules.faults(made), self._plain)
