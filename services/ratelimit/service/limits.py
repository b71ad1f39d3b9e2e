"""weft.ratelimit.v1.RateLimitService."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import check_etag
from services.chassis.method import Call
from services.ratelimit.domain.limit import (
    CALENDAR,
    LIMITS_MAX,
    RateLimit,
    RateLimitIdReused,
    RateLimitNameTaken,
    TooManyRateLimits,
)
from services.ratelimit.service import pack
from services.ratelimit.service.shared import Shared
from services.ratelimit.store import limit as store, usage
from weft.ratelimit.v1 import ratelimit_pb2 as pb
from weft.ratelimit.v1.events_pb2 import (
    RateLimitCreated,
    RateLimitDeleted,
    RateLimitUpdated,
    RateLimitUsageReset,
)
from weft.ratelimit.v1.ratelimit_pb2_grpc import RateLimitServiceServicer


class RateLimits(RateLimitServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db = shared, shared.db

    async def CreateRateLimit(
        self, request: pb.CreateRateLimitRequest, call: Call
    ) -> pb.CreateRateLimitResponse:
        values, now = self._checked(request.settings), self._shared.clock.now()
        async with self._db.transaction() as tx:
            order = await store.locked(tx)
            row = await store.find(tx, UUID(request.rate_limit_id))
            if row is None:
                await _free(tx, values["name"])
                if await store.count(tx) >= LIMITS_MAX:
                    raise TooManyRateLimits(max=LIMITS_MAX)
                named = {"rate_limit_id": UUID(request.rate_limit_id), "generation": 1}
                times = {"revision": order.next(), "created_at": now, "updated_at": now}
                row = await store.add(tx, {**values, **named, **times})
                await emit(tx, RateLimitCreated(rate_limit_id=request.rate_limit_id))
            elif not row.says(values):
                raise RateLimitIdReused(rate_limit_id=request.rate_limit_id)
        return pb.CreateRateLimitResponse(rate_limit=pack.rate_limit(row))

    async def GetRateLimit(self, request: pb.GetRateLimitRequest, call: Call) -> pb.GetRateLimitResponse:
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.rate_limit_id))
        return pb.GetRateLimitResponse(rate_limit=pack.rate_limit(row))

    async def ListRateLimits(
        self, request: pb.ListRateLimitsRequest, call: Call
    ) -> pb.ListRateLimitsResponse:
        page = store.LIMITS.page(request, self._shared.page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListRateLimitsResponse(rate_limits=map(pack.rate_limit, rows), next_page_token=token)

    async def UpdateRateLimit(
        self, request: pb.UpdateRateLimitRequest, call: Call
    ) -> pb.UpdateRateLimitResponse:
        values = self._checked(request.settings)
        async with self._db.transaction() as tx:
            order = await store.locked(tx)
            row = await store.get(tx, UUID(request.rate_limit_id))
            # What is so already is no conflict: the caller repeats a call whose answer was lost.
            if not row.says(values):
                check_etag(request.etag, row.revision)
                if row.name != values["name"]:
                    await _free(tx, values["name"])
                row.replace(values)
                row.revision, row.updated_at = order.next(), self._shared.clock.now()
                await emit(tx, RateLimitUpdated(rate_limit_id=request.rate_limit_id))
        return pb.UpdateRateLimitResponse(rate_limit=pack.rate_limit(row))

    async def DeleteRateLimit(
        self, request: pb.DeleteRateLimitRequest, call: Call
    ) -> pb.DeleteRateLimitResponse:
        async with self._db.transaction() as tx:
            order = await store.locked(tx)
            row = await store.get(tx, UUID(request.rate_limit_id))
            check_etag(request.etag, row.revision)
            await tx.delete(row)
            await usage.clear(tx, row.rate_limit_id)
            order.next()
            await emit(tx, RateLimitDeleted(rate_limit_id=request.rate_limit_id))
        return pb.DeleteRateLimitResponse()

    async def ListUsage(self, request: pb.ListUsageRequest, call: Call) -> pb.ListUsageResponse:
        now, key = self._shared.clock.now(), self._shared.page_key
        async with self._db.transaction() as tx:
            row = await store.get(tx, UUID(request.rate_limit_id))
            if row.unit in CALENDAR:
                quotas, token = await usage.quotas(tx, row, usage.QUOTAS.page(request, key))
                found = [pack.quota_usage(each, now) for each in quotas]
            else:
                rates, token = await usage.rates(tx, row, usage.RATES.page(request, key))
                found = [pack.rate_usage(each, now) for each in rates]
        return pb.ListUsageResponse(usage=found, next_page_token=token)

    async def ResetUsage(self, request: pb.ResetUsageRequest, call: Call) -> pb.ResetUsageResponse:
        async with self._db.transaction() as tx:
            order = await store.locked(tx)
            row = await store.get(tx, UUID(request.rate_limit_id))
            await usage.clear(tx, row.rate_limit_id, request.key)
            row.generation += not request.key
            row.revision = order.next()  # Deciders drop what they hold of it.
            event = RateLimitUsageReset(rate_limit_id=request.rate_limit_id, all_keys=not request.key)
            await emit(tx, event)
        return pb.ResetUsageResponse()

    def _checked(self, settings: pb.RateLimitSettings) -> dict[str, Any]:
        """Raises NotAtTheEdge."""
        values = pack.columns(settings)
        self._shared.edge.check(prefix=values["prefix"], failure=values["failure"], header=values["header"])
        return values


async def _free(tx: Tx, name: str) -> None:
    """Raises RateLimitNameTaken."""
    taken: RateLimit | None = await store.named(tx, name)
    if taken is not None:
        raise RateLimitNameTaken(name=name)
