"""Ids rise with time; fake time passes only when told."""

import asyncio
from datetime import UTC, datetime, timedelta

from services.chassis.clock import BACKSTEP_MS_MAX, Clock, FakeClock, uuid7


def test_ids_made_in_one_process_rise_strictly() -> None:
    ids = [uuid7() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    assert {(made.version, made.variant) for made in ids} == {(7, "specified in RFC 4122")}


def test_ids_rise_while_the_clock_stands_still_or_steps_back() -> None:
    at = datetime.now(UTC) + timedelta(days=1)
    still = [uuid7(at) for _ in range(10_000)]
    back = uuid7(at - timedelta(milliseconds=BACKSTEP_MS_MAX // 2))
    assert [*still, back] == sorted({*still, back})


def test_an_id_says_when_it_was_made() -> None:
    at = datetime(2031, 5, 6, 7, 8, 9, 123_000, tzinfo=UTC)
    assert uuid7(at).int >> 80 == int(at.timestamp() * 1000)
    earlier = datetime(2020, 1, 1, tzinfo=UTC)  # Another clock: not held to the first one's ids.
    assert uuid7(earlier).int >> 80 == int(earlier.timestamp() * 1000)


async def test_sleepers_wake_in_the_order_of_their_time_when_it_has_come() -> None:
    clock, woken = FakeClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 2)]
    await asyncio.sleep(0)
    before = clock.now()
    clock.advance(2.5)
    await asyncio.gather(*tasks[1:])
    assert woken == [1, 2]
    clock.advance(1)
    await tasks[0]
    assert (clock.now() - before).total_seconds() == clock.monotonic() == 3.5


def test_real_time_is_aware_and_utc() -> None:
    assert Clock().now().utcoffset() == timedelta(0)
