"""What limits let through, by rule alone: however many decide, however late they hear, by whatever clock."""

from __future__ import annotations

import itertools
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from services.ratelimit.domain import gcra
from services.ratelimit.domain.book import KEY_CHARS_MAX, Book
from services.ratelimit.domain.bucket import LEASE_S, QUOTA_LEASE_S, Bucket
from services.ratelimit.domain.gcra import Taken
from services.ratelimit.domain.limit import Edge, NotAtTheEdge
from tests.ratelimit.deciders import SECOND, Call, Store, World, limit

LEASE_NS = round(LEASE_S * SECOND)
PERIOD_NS = 20 * SECOND
UNITS = {"SECOND": SECOND, "MINUTE": 60 * SECOND}
ROUNDING_NS = 1_000  # Deciders' clocks are floats.


@st.composite
def arrivals(draw: st.DrawFn, deciders: int, gaps_ms: tuple[int, ...]) -> list[Call]:
    """Calls in bursts and with pauses, at random deciders; none at the very moment in which a period ends."""
    gaps = draw(st.lists(st.sampled_from(gaps_ms), min_size=20, max_size=120))
    places = Random(draw(st.integers(0, 2**32)))
    times = itertools.accumulate(gap * 10**6 for gap in gaps)
    return [
        Call(at + SECOND + 500_000, places.randrange(deciders), places.choice((1, 1, 1, 2))) for at in times
    ]


@st.composite
def worlds(draw: st.DrawFn, *, quota: bool) -> tuple[World, list[Call]]:
    deciders = draw(st.integers(1, 4))
    ways_ms = draw(st.sampled_from(((0,), (5,), (0, 0, 0, 3_000), (1, 400), (3_000,))))
    late = Random(draw(st.integers(0, 2**32)))
    skews = draw(st.lists(st.sampled_from((-1e6, -3.0, 0.0, 7.5, 1e5)), min_size=deciders, max_size=deciders))
    if quota:
        rule = limit(unit="DAY", requests=draw(st.integers(1, 60)))
        calls = draw(arrivals(deciders, (0, 1, 30, 900, 11_000)))
    else:
        unit, requests = draw(st.sampled_from(list(UNITS))), draw(st.integers(1, 50))
        rule = limit(unit=unit, requests=requests, burst=draw(st.integers(1, 80)))
        calls = draw(arrivals(deciders, (0, 1, 10, 30, 200, 900)))
    store = Store(rule, PERIOD_NS if quota else 0)
    return World(rule, store, skews, lambda: late.choice(ways_ms) * 10**6 + 1), calls


@settings(max_examples=30, deadline=None)
@given(worlds(quota=False))
def test_a_rate_lets_through_its_burst_and_what_comes_back_in_any_window_and_one_lease(
    made: tuple[World, list[Call]],
) -> None:
    world, calls = made
    world.run(calls)
    assert len(world.passed) + len(world.refused) == len(calls)
    emission, burst = world.limit.emission_ns, world.limit.room
    for first, (begin, _) in enumerate(world.passed):
        count = 0
        for at, hits in world.passed[first:]:
            count += hits
            assert count <= burst + (at - begin + LEASE_NS + ROUNDING_NS) // emission


@settings(max_examples=30, deadline=None)
@given(worlds(quota=True))
def test_a_quota_lets_no_call_more_through_in_a_period(made: tuple[World, list[Call]]) -> None:
    world, calls = made
    world.run(calls)
    used: dict[int, int] = {}
    for at, hits in world.passed:
        used[at // PERIOD_NS] = used.get(at // PERIOD_NS, 0) + hits
    assert max(used.values(), default=0) <= world.limit.requests


def test_one_who_keeps_to_the_rate_is_never_refused() -> None:
    rule = limit(requests=10, burst=2)
    world = World(rule, Store(rule), [0.0], lambda: 10**6)
    world.run([Call(SECOND + n * rule.emission_ns, 0, 1) for n in range(200)])
    assert (len(world.passed), world.refused) == (200, [])


def test_a_busy_key_gets_its_rate_and_asks_the_store_seldom() -> None:
    rule = limit(requests=1_000, burst=1_000)
    store = Store(rule)
    asked = []
    take = store.take
    store.take = lambda calls, at: asked.append(calls) or take(calls, at)  # type: ignore[method-assign, func-returns-value]
    world = World(rule, store, [0.0, 5.0], lambda: 10**6)
    world.run([Call(SECOND + n * SECOND // 2_000, n % 2, 1) for n in range(20_000)])
    passed = sum(hits for _, hits in world.passed)
    assert 10_500 <= passed <= 11_500  # Ten seconds' and the burst.
    assert len(asked) < passed / 20


@given(
    st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(0, 9)), max_size=25),
    st.integers(1, 40),
    st.integers(1, 20),
)
def test_what_was_granted_by_a_bucket_keeps_to_its_rate(
    steps: list[tuple[int, int]], requests: int, burst: int
) -> None:
    rule = limit(requests=requests, burst=burst)
    at, tat, grants = SECOND, None, []
    for gap, asked in steps:
        at += gap
        granted, tat = gcra.take(tat, at, asked, rule.emission_ns, rule.tolerance_ns)
        assert 0 <= granted <= asked
        assert at <= tat <= at + rule.tolerance_ns
        grants.append((at, granted))
    for first, (begin, _) in enumerate(grants):
        for last in range(first, len(grants)):
            count = sum(granted for _, granted in grants[first : last + 1])
            assert count <= burst + (grants[last][0] - begin) // rule.emission_ns


def test_a_clock_that_was_set_back_refuses_for_one_bucket_at_the_most() -> None:
    rule = limit(requests=10, burst=5)
    _, tat = gcra.take(None, 1_000 * SECOND, 5, rule.emission_ns, rule.tolerance_ns)
    _, tat = gcra.take(tat, 10 * SECOND, 5, rule.emission_ns, rule.tolerance_ns)
    assert gcra.take(tat, 10 * SECOND + rule.tolerance_ns, 5, rule.emission_ns, rule.tolerance_ns)[0] == 5


def test_a_lot_of_a_quota_ends_with_its_period_and_what_is_left_goes_back_once() -> None:
    bucket = Bucket(limit(unit="DAY", requests=100), "u")
    bucket.credit(5, Taken(5, 95, 0, 3 * SECOND, period=7), sent=10.0, now=10.5)
    assert bucket.holds(1, 12.9)
    assert not bucket.holds(1, 13.0)
    assert (bucket.unspent(12.9), bucket.unspent(13.0), bucket.unspent(13.0)) == (0, 5, 0)
    bucket.credit(5, Taken(5, 90, 0, 9_000 * SECOND, period=8), sent=20.0, now=20.0)
    assert not bucket.holds(1, 20.0 + QUOTA_LEASE_S)


def test_a_lot_ends_by_when_it_was_asked_for_and_what_joins_it_ends_no_later() -> None:
    bucket = Bucket(limit(requests=100), "u")
    bucket.credit(5, Taken(5, 80, 0, SECOND), sent=10.0, now=10.4)
    assert bucket.holds(5, 10.49)
    assert not bucket.holds(1, 10.0 + LEASE_S)
    bucket.credit(9, Taken(9, 71, 0, SECOND), sent=10.4, now=10.45)
    assert bucket.holds(14, 10.49)
    assert not bucket.holds(1, 10.0 + LEASE_S)
    bucket.credit(9, Taken(9, 62, 0, SECOND), sent=20.0, now=23.0)
    assert (bucket.tokens, bucket.holds(1, 23.0)) == (9, False)


def test_of_limits_with_one_key_and_unit_the_one_with_the_highest_priority_counts() -> None:
    all_users = limit(rate_limit_id=UUID(int=1), name="all")
    gold = limit(rate_limit_id=UUID(int=2), name="gold", plans=frozenset({"gold"}), priority=5)
    daily = limit(rate_limit_id=UUID(int=3), name="daily", unit="DAY")
    orders = limit(rate_limit_id=UUID(int=4), name="orders", prefix="weft.order.")
    routes = limit(
        rate_limit_id=UUID(int=5), name="routes", prefix="/v1/orders", entry="masked_remote_address"
    )
    book = Book([all_users, gold, daily, orders, routes])

    def met(**call: str) -> list[str]:
        return sorted(each.name for each, _ in book.meets({"rpc": "weft.cart.v1.X.Y", **call}, 0.0))

    assert met(user="u") == ["all", "daily"]
    assert met(user="u", plan="gold") == ["daily", "gold"]
    assert met(user="u", plan="tin", rpc="weft.order.v1.OrderService.GetOrder") == ["daily", "orders"]
    assert met(masked_remote_address="203.0.113.7/32", route="/v1/orders/*") == ["routes"]
    assert met() == []


def test_a_limit_holds_from_its_start_to_its_end_and_for_its_keys() -> None:
    book = Book([limit(start_s=10.0, end_s=20.0, keys=frozenset({"u"}))])
    assert [len(book.meets({"user": "u"}, now)) for now in (9.9, 10.0, 19.9, 20.0)] == [0, 1, 1, 0]
    assert book.meets({"user": "v"}, 15.0) == []
    assert [book.changes(now) for now in (0.0, 10.0, 20.0)] == [10.0, 20.0, float("inf")]


def test_a_key_of_any_length_is_kept_short() -> None:
    everybody = limit(entry="")
    long, longer = "x" * 10_000, "x" * 10_001
    book = Book([limit(entry="header:x-tenant"), everybody])
    keys = {key for said in (long, longer) for _, key in book.meets({"header:x-tenant": said}, 0.0)}
    assert len(keys) == 3
    assert max(map(len, keys)) <= KEY_CHARS_MAX


def test_a_limit_promises_only_what_the_edge_does() -> None:
    edge = Edge(closed=("weft.payment.",), headers=("x-tenant",))
    edge.check(prefix="weft.payment.v1.", failure="CLOSED", header="x-tenant")
    edge.check(prefix="", failure="OPEN", header="")
    for prefix in ("", "weft.order.", "weft."):
        with pytest.raises(NotAtTheEdge, match=r"settings\.failure"):
            edge.check(prefix=prefix, failure="CLOSED", header="")
    with pytest.raises(NotAtTheEdge, match=r"settings\.header"):
        edge.check(prefix="", failure="OPEN", header="x-other")
