"""The rules of levels and reservations, by property."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, strategies as st

from services.inventory.domain.level import Level, OutOfStock
from services.inventory.domain.levels import Demand, Levels, allocate, summed
from services.inventory.domain.reservation import MoreThanHeld, digest_of, new

PLACES = [UUID(int=n) for n in range(1, 5)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)

small = st.integers(0, 8)
level = st.builds(
    Level,
    sku=st.sampled_from("ab"),
    location_id=st.sampled_from(PLACES),
    on_hand=small,
    reserved=small,
    threshold=st.integers(-5, 5),
    priority=st.integers(0, 3),
)
levels = st.lists(level, max_size=6, unique_by=lambda each: (each.sku, each.location_id))
demand = st.builds(
    Demand, sku=st.sampled_from("ab"), location_id=st.sampled_from([None, *PLACES]), units=st.integers(1, 6)
)
demands = st.lists(demand, min_size=1, max_size=5)


def free(level: Level) -> int:
    return max(0, level.available)


@given(levels, st.integers(1, 12))
def test_allocation_gives_all_or_nothing_and_never_more_than_there_is(rows: list[Level], units: int) -> None:
    given_ = allocate(units, rows)
    possible = sum(max(0, each.available) for each in rows)
    assert sum(count for _, count in given_) == (units if possible >= units else 0)
    for each, count in given_:
        assert 0 < count <= each.available


@given(levels, st.integers(1, 12))
def test_one_location_is_preferred_and_what_lies_there_goes_first(rows: list[Level], units: int) -> None:
    given_ = allocate(units, rows)
    whole = [each for each in rows if each.in_stock >= units]
    if whole:
        assert given_ == [(whole[0], units)]
    elif given_ and sum(each.in_stock for each in rows) >= units:
        assert all(count <= each.in_stock for each, count in given_)


@given(levels, demands)
def test_a_reservation_holds_what_was_asked_or_nothing(rows: list[Level], asked: list[Demand]) -> None:
    found, before = Levels.of(rows), {id(each): (each.reserved, free(each)) for each in rows}
    try:
        shares = found.hold(summed(asked))
    except OutOfStock as refusal:
        assert all(each.reserved == before[id(each)][0] for each in rows)
        wanted, available = int(refusal.facts["wanted"]), int(refusal.facts["available"])
        assert wanted > available
        return
    for sku in "ab":
        wanted = sum(each.units for each in asked if each.sku == sku)
        assert sum(each.units for each in shares if each.sku == sku) == wanted
    for each in rows:
        taken = each.reserved - before[id(each)][0]
        assert 0 <= taken <= before[id(each)][1]
        pinned = sum(one.units for one in asked if (one.sku, one.location_id) == (each.sku, each.location_id))
        assert taken >= pinned


@given(levels, demands)
def test_lines_in_another_order_or_split_are_the_same_request(rows: list[Level], asked: list[Demand]) -> None:
    split = [Demand(one.sku, one.location_id, 1) for one in reversed(asked) for _ in range(one.units)]
    assert summed(split) == summed(asked)
    assert digest_of(summed(split)) == digest_of(summed(asked))


ends = st.lists(st.tuples(st.sampled_from(["COMMIT", "RELEASE"]), demands), max_size=4)


@given(demands, ends, st.booleans())
def test_units_of_a_reservation_are_held_committed_or_released(
    asked: list[Demand], ends: list[tuple[str, list[Demand]]], expires: bool
) -> None:
    rows = [Level(sku, place, on_hand=40) for sku in "ab" for place in PLACES]
    made = new(PLACES[0], b"", Levels.of(rows).hold(summed(asked)), (NOW, NOW + timedelta(1)))
    units = Counter({(line.sku, line.location_id): line.held for line in made.lines})
    for ending, parts in ends:
        before = [(line.held, line.committed, line.released) for line in made.lines]
        try:
            shares = made.end(ending, summed(parts), NOW)  # type: ignore[arg-type]
        except MoreThanHeld:
            assert [(line.held, line.committed, line.released) for line in made.lines] == before
            continue
        assert sum(each.units for each in shares) == sum(each.units for each in parts)
    if expires:
        made.end("EXPIRE", None, NOW)
    for line in made.lines:
        assert min(line.held, line.committed, line.released) >= 0
        assert line.held + line.committed + line.released == units[line.sku, line.location_id]
    assert (made.state == "HELD") == any(line.held for line in made.lines)
    if made.state == "COMMITTED":
        assert any(line.committed for line in made.lines)
    if made.state == "RELEASED":
        assert not any(line.committed for line in made.lines)
