"""What the catalog says of skus, kept here: asked for once, outdated by its events, asked for again.

An event says only that something is old. So events may come twice, late and in any order, and what is kept
is what the catalog answered after the last of them.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from services.chassis.bus import within
from services.chassis.db import Conflict, Database
from services.chassis.mesh import Mesh
from services.pricing import reading
from services.pricing.alone import alone
from services.pricing.domain.item import Item
from services.pricing.store import item as store
from weft.catalog.v1 import product_pb2  # noqa: F401 - its service, which the stub looks up
from weft.catalog.v1.product_messages_pb2 import BatchGetVariantsRequest
from weft.catalog.v1.product_pb2_grpc import ProductServiceStub

BATCH_MAX = 200  # Skus of one question, as the catalog's contract has it.
REFRESH_EVERY_S = 5.0  # What another process heard of, or failed at, is asked for within this.


class Mirror:
    """The items of quotes."""

    def __init__(self, db: Database, mesh: Mesh) -> None:
        self._db, self._catalog = db, ProductServiceStub(mesh)
        self._old = asyncio.Event()

    async def items(self, skus: Sequence[str]) -> dict[str, Item]:
        """Those that the catalog has, by sku. Raises CallFailed while it is away and one is not known."""
        found = await store.find(self._db, skus)
        if missing := sorted(set(skus) - found.keys()):
            found |= await self._ask(missing)
        return found

    async def run(self) -> None:
        """For ever: what was outdated is asked for before a quote needs it."""
        while True:
            while skus := await store.old(self._db, BATCH_MAX):
                await self._ask(skus)
            await within(self._old, REFRESH_EVERY_S)
            self._old.clear()

    def poke(self) -> None:
        """Something was outdated by this process."""
        self._old.set()

    async def _ask(self, skus: Sequence[str]) -> dict[str, Item]:
        batches = [skus[n : n + BATCH_MAX] for n in range(0, len(skus), BATCH_MAX)]
        answers = await asyncio.gather(*map(self._ask_batch, batches))
        return {item.sku: item for answer in answers for item in answer}

    async def _ask_batch(self, skus: Sequence[str]) -> list[Item]:
        revisions = await store.revisions(self._db, skus)
        response = await alone(partial(self._catalog.BatchGetVariants, BatchGetVariantsRequest(skus=skus)))
        items = [reading.item(variant) for variant in response.variants]
        with suppress(Conflict):  # An event of the catalog got in the way: they are asked for again.
            await store.keep(self._db, items, revisions)
            if gone := sorted(set(skus) - {item.sku for item in items}):
                await store.drop(self._db, gone)
        return items
