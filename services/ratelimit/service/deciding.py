"""envoy.service.ratelimit.v3.RateLimitService: tells an edge whether a call may pass.

Answers whoever reaches this process's port, as health does. A decision is made from memory; the store is
asked once for a lot of calls, by one statement for all keys that want one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

from envoy.service.ratelimit.v3 import rls_pb2
from services.chassis.clock import Clock
from services.chassis.db import Database, DatabaseAway
from services.chassis.errors import Refusal
from services.chassis.grouping import Grouping
from services.chassis.method import Call
from services.ratelimit.domain.bucket import Bucket
from services.ratelimit.domain.gcra import Taken
from services.ratelimit.domain.limit import Limit
from services.ratelimit.service.rules import Rules
from services.ratelimit.service.tallying import Tally
from services.ratelimit.store import taking
from services.ratelimit.store.taking import Ask, Back

CALLS_MAX = 20_000  # Kinds of calls whose buckets are remembered: about 1 kB each.
BUCKETS_MAX = 50_000  # Beyond it the oldest goes, and what it holds with it.
TOGETHER_MAX = 256  # Keys of one statement.
SWEEP_EVERY_S = 2.0  # How much later than its lot has ended a quota gets back what was not spent.
OK, OVER = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT
Said = tuple[tuple[str, str], ...]  # A descriptor, as a key.

log = logging.getLogger("weft.ratelimit")


class Decider:
    """Of one process."""

    def __init__(self, db: Database, clock: Clock, rules: Rules) -> None:
        self._db, self._clock, self._rules = db, clock, rules
        self._calls: dict[Said, list[Bucket]] = {}
        self._buckets: dict[tuple[Limit, str], Bucket] = {}
        self._filling: dict[Bucket, asyncio.Task[None]] = {}
        self._backs: list[Back] = []
        self._taking: Grouping[Ask, Taken] = Grouping(self._together, TOGETHER_MAX)
        self._changes_at = math.inf
        self.tally = Tally()
        rules.on_change = self._forget

    async def ShouldRateLimit(
        self, request: rls_pb2.RateLimitRequest, call: Call
    ) -> rls_pb2.RateLimitResponse:
        now = self._clock.monotonic()
        if not self._rules.fresh(now):
            await self._learn()
        said = tuple((e.key, e.value) for d in request.descriptors for e in d.entries)
        buckets = self._calls.get(said)
        if buckets is None or self._clock.epoch() >= self._changes_at:
            buckets = self._met(said)
        return await self._decide(buckets, request.hits_addend or 1)

    async def _learn(self) -> None:
        """Raises DatabaseAway, DatabaseBusy: then the edge's own rule for the route decides."""
        try:
            await self._rules.renewed()
        except Refusal:
            if self._rules.book is None:
                raise

    def _met(self, said: Said) -> list[Bucket]:
        book, now_s = self._rules.book, self._clock.epoch()
        assert book is not None
        if now_s >= self._changes_at or len(self._calls) >= CALLS_MAX:
            self._calls.clear()
        self._changes_at = book.changes(now_s)
        found = [self._bucket(limit, key) for limit, key in book.meets(dict(said), now_s)]
        self._calls[said] = found
        return found

    def _bucket(self, limit: Limit, key: str) -> Bucket:
        bucket = self._buckets.get((limit, key))
        if bucket is None:
            if len(self._buckets) >= BUCKETS_MAX:
                del self._buckets[next(iter(self._buckets))]
                self._calls.clear()
            bucket = self._buckets[limit, key] = Bucket(limit, key)
        return bucket

    async def _decide(self, buckets: Sequence[Bucket], hits: int) -> rls_pb2.RateLimitResponse:
        """A call that one limit refuses spends nothing of the others."""
        while True:
            now = self._clock.monotonic()
            short = [each for each in buckets if not each.holds(hits, now)]
            lacking = [each for each in short if not (each.empty(now) or each.away(now))]
            if not lacking:
                return self._answer(buckets, short, hits, now)
            for each in lacking:
                each.wanted += hits
                if each not in self._filling:
                    self._filling[each] = asyncio.create_task(self._fill(each))
            await asyncio.wait([self._filling[each] for each in lacking])

    def _answer(
        self, buckets: Sequence[Bucket], short: Sequence[Bucket], hits: int, now: float
    ) -> rls_pb2.RateLimitResponse:
        refusing = [each for each in short if each.empty(now) and not each.limit.shadow]
        unknown = [each for each in short if not each.empty(now)]
        if not refusing and any(each.limit.closed and not each.limit.shadow for each in unknown):
            raise DatabaseAway
        for each in short:
            if each.empty(now):
                each.refused += hits
                self.tally.refused(each.limit, hits)
        if refusing:
            return _refusal(refusing, now)
        for each in buckets:
            if each not in short:
                each.tokens -= hits
                self.tally.passed(each.limit, hits)
        return _passing([each for each in buckets if not each.limit.shadow], now)

    async def _fill(self, bucket: Bucket) -> None:
        """Never fails: what came of it stands in the bucket."""
        sent = self._clock.monotonic()
        self._empty(bucket, sent)
        asked, refused = bucket.ask(sent), bucket.refused
        bucket.refused = 0
        try:
            taken = await self._taking.do(Ask(bucket.limit, bucket.key, asked, refused))
            bucket.credit(asked, taken, sent, self._clock.monotonic())
        except Exception as error:
            if not isinstance(error, Refusal):
                log.exception("a lot was not taken")
            bucket.refused += refused
            bucket.fail(self._clock.monotonic())
        finally:
            self._filling.pop(bucket, None)

    def _empty(self, bucket: Bucket, now: float) -> None:
        if calls := bucket.unspent(now):
            self._backs.append(Back(bucket.limit, bucket.key, calls, bucket.period))

    async def _together(self, asks: Sequence[Ask]) -> list[Taken]:
        """A key of two buckets, one of them just forgotten, is asked for twice, one after the other."""
        found: list[Taken | None] = [None] * len(asks)
        left = list(enumerate(asks))
        while left:
            now: dict[tuple[object, ...], tuple[int, Ask]] = {}
            for place, ask in left:
                now.setdefault((ask.limit.rate_limit_id, ask.limit.generation, ask.key), (place, ask))
            for (place, _), taken in zip(
                now.values(), await taking.take(self._db, [ask for _, ask in now.values()]), strict=True
            ):
                found[place] = taken
            left = [each for each in left if found[each[0]] is None]
        return [taken for taken in found if taken is not None]

    def _forget(self) -> None:
        """Limits have changed: what is held of those that have not stays."""
        book = self._rules.book
        kept = set(book.limits) if book else set()
        self._calls.clear()
        self._buckets = {key: each for key, each in self._buckets.items() if key[0] in kept}

    async def run(self) -> None:
        """Gives back what was not spent and forgets what is idle, for ever."""
        while True:
            await self._clock.sleep(SWEEP_EVERY_S)
            if self._buckets:
                await self.sweep()

    async def sweep(self) -> None:
        """Once, and tells the store of refusals."""
        now = self._clock.monotonic()
        self.tally.tell()
        for each in self._buckets.values():
            if each not in self._filling:
                self._empty(each, now)
        backs, self._backs = self._backs, []
        if backs:  # What cannot be given back now is lost to its keys until their period ends: a lot each.
            await taking.give_back(self._db, backs)
        asks = [Ask(each.limit, each.key, 0, each.refused) for each in self._buckets.values() if each.refused]
        for each in self._buckets.values():
            each.refused = 0
        for start in range(0, len(asks), TOGETHER_MAX):
            await taking.take(self._db, asks[start : start + TOGETHER_MAX])
        gone = [key for key, each in self._buckets.items() if each.idle(now) and each not in self._filling]
        for key in gone:
            del self._buckets[key]
        if gone:
            self._calls.clear()


def _refusal(refusing: Sequence[Bucket], now: float) -> rls_pb2.RateLimitResponse:
    last = max(refusing, key=lambda each: each.open_at)
    wait_s = max(1, math.ceil(last.open_at - now))
    response = rls_pb2.RateLimitResponse(overall_code=OVER)
    _tell(
        response,
        ("ratelimit-policy", last.limit.policy),
        ("ratelimit", f'"{last.limit.name}";r=0;t={wait_s}'),
        ("retry-after", str(wait_s)),
    )
    return response


def _passing(buckets: Sequence[Bucket], now: float) -> rls_pb2.RateLimitResponse:
    response = rls_pb2.RateLimitResponse(overall_code=OK)
    if buckets:
        least = min(buckets, key=lambda each: each.left + each.tokens)
        left, full_s = least.left + least.tokens, max(0, math.ceil(least.full_at - now))
        _tell(
            response,
            ("ratelimit-policy", least.limit.policy),
            ("ratelimit", f'"{least.limit.name}";r={left};t={full_s}'),
        )
    return response


def _tell(response: rls_pb2.RateLimitResponse, *headers: tuple[str, str]) -> None:
    for key, value in headers:
        response.response_headers_to_add.add(key=key, value=value)
