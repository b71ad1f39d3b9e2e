"""All price lists and active promotions, as one process remembers them until one of them changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.chassis.db import Database
from services.pricing import reading
from services.pricing.domain.price_list import PriceList
from services.pricing.domain.promotion import Promotion
from services.pricing.store import rulebook as store
from weft.pricing.v1.promotion_settings_pb2 import PromotionSettings


@dataclass(frozen=True, slots=True)
class Rules:
    """Price lists in order of rank, and promotions that are active."""

    lists: Sequence[PriceList]
    promotions: Mapping[UUID, Promotion]


class Rulebook:
    """Reads again when the number of the rulebook has risen; a quote asks for it in any case."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._revision = -1
        self._rules = Rules([], {})

    async def read(self, customer_id: UUID | None, at: datetime) -> tuple[Rules, Sequence[str]]:
        """The rules as they are committed, and the segments of the customer."""
        revision, segments = await store.revision(self._db, customer_id, at)
        if revision == self._revision:
            return self._rules, segments
        rules = await self._load()
        if revision > self._revision:  # What was read later is newer, but may not be the newest.
            self._rules, self._revision = rules, revision
        return rules, segments

    async def some(self, promotion_ids: Sequence[UUID]) -> Mapping[UUID, Promotion]:
        """Promotions whatever their state."""
        return _promotions(await store.some(self._db, promotion_ids))

    async def _load(self) -> Rules:
        lists = sorted(map(reading.price_list, await store.lists(self._db)), key=lambda each: each.rank)
        return Rules(lists, _promotions(await store.active(self._db)))


def _promotions(rows: Sequence[Mapping[str, object]]) -> dict[UUID, Promotion]:
    made = {}
    for row in rows:
        settings = PromotionSettings.FromString(row["settings"])  # type: ignore[arg-type]
        promotion_id = row["promotion_id"]
        assert isinstance(promotion_id, UUID)
        made[promotion_id] = reading.promotion(promotion_id, settings)
    return made
