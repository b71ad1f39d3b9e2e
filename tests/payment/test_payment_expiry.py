"""Time: what is not confirmed, captured or finished in time is given up, and nothing is kept of it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.chassis.clock import FakeClock
from services.chassis.testing import until
from tests.payment.till import Till, refused, state_of, till
from tests.servers import Shared
from weft.payment.v1 import intent_pb2 as pb

DAY_S = 86_400.0


@pytest.fixture
async def patient(servers: Shared) -> AsyncIterator[Till]:
    """A till whose clock the test sets; its times are those of production."""
    clock = FakeClock()
    async with till(servers, clock, round_s="1", poll_s="15", lease_s="30", call_s="20") as made:
        yield made


async def later(made: Till, seconds: float) -> None:
    clock = made.lab.clock
    assert isinstance(clock, FakeClock)
    clock.advance(seconds)


async def ends(made: Till, intent_id: str, state: str) -> pb.Intent:
    """Waits; the loops sleep by the test's clock."""

    async def there() -> pb.Intent | None:
        await later(made, 1)
        found = await made.get(intent_id)
        return found if state_of(found) == state else None

    found: pb.Intent = await until(there)
    return found


async def test_what_was_not_confirmed_within_its_time_is_given_up(patient: Till) -> None:
    made = await patient.create()
    await later(patient, DAY_S + 1)
    gone = await ends(patient, made.intent_id, "CANCELLED")
    assert gone.cancel_reason == "expired"
    assert await refused(patient.confirm(made.intent_id)) == "INTENT_STATE_REFUSED"
    assert await patient.events(made.intent_id) == ["IntentCreated", "PaymentCancelled"]


async def test_who_does_not_authenticate_in_time_has_not_paid(patient: Till) -> None:
    made = await patient.pay(card_token="pm_card_threeDSecure2Required")
    await later(patient, DAY_S + 1)
    await ends(patient, made.intent_id, "CANCELLED")
    sql = "select state from desk_payment where ref = $1"
    ref = made.next_action.redirect_url.rpartition("/")[2]

    async def released() -> bool:
        await later(patient, 1)
        return bool(await patient.lab.db("payment").fetchval(sql, ref) == "VOIDED")

    await until(released)


async def test_what_was_held_and_not_captured_is_released_after_a_week(patient: Till) -> None:
    held = await patient.hold()
    await later(patient, 6 * DAY_S)
    assert state_of(await patient.get(held.intent_id)) == "AUTHORISED"
    await later(patient, DAY_S + 1)
    assert (await ends(patient, held.intent_id, "CANCELLED")).cancel_reason == "expired"


async def test_what_was_captured_in_part_keeps_the_part(patient: Till) -> None:
    held = await patient.hold()
    await patient.capture(held.intent_id, 300)
    await later(patient, 7 * DAY_S + 1)
    kept = await ends(patient, held.intent_id, "SUCCEEDED")
    assert (kept.captured.amount_minor, kept.refunded.amount_minor) == (300, 0)


async def test_a_transfer_has_a_fortnight_and_a_time_of_its_own_holds(patient: Till) -> None:
    slow = await patient.pay(kind=pb.METHOD_KIND_BANK_TRANSFER)
    swift = pb.CreateIntentRequest()
    at = patient.lab.clock.now() + timedelta(hours=1)
    swift.expire_time.FromDatetime(at)
    quick = await patient.pay(kind=pb.METHOD_KIND_BANK_TRANSFER, expire_time=swift.expire_time)
    await later(patient, 3601)
    await ends(patient, quick.intent_id, "CANCELLED")
    assert state_of(await patient.get(slow.intent_id)) == "REQUIRES_ACTION"
    await later(patient, 14 * DAY_S)
    await ends(patient, slow.intent_id, "CANCELLED")


async def test_a_time_that_has_passed_or_lies_too_far_ahead_is_refused(patient: Till) -> None:
    for shift in (timedelta(seconds=-1), timedelta(), timedelta(days=91)):
        wanted = pb.CreateIntentRequest()
        wanted.expire_time.FromDatetime(patient.lab.clock.now() + shift)
        asking = patient.create(expire_time=wanted.expire_time)
        assert await refused(asking) == "EXPIRE_TIME_PASSED"
