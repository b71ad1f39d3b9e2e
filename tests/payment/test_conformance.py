"""What every gateway keeps to, whichever it is and wherever it runs."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from services.chassis.db import Database
from services.payment.app import build
from services.payment.domain.remote import GatewayAway, GatewayRefused, RemoteState
from tests import databases
from tests.payment.beds import BEDS, Bed, bank, stripe
from tests.servers import free_port

OWN = Path(build.__code__.co_filename).parent / "migrations"
AUTHORISED, TAKEN, VOIDED = RemoteState.AUTHORISED, RemoteState.TAKEN, RemoteState.VOIDED


@pytest.fixture(scope="module")
async def db(postgres: str) -> AsyncIterator[Database]:
    async with databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        db = Database(url)
        yield db
        await db.close()


@pytest.fixture(scope="module", params=BEDS)
async def bed(request: pytest.FixtureRequest, db: Database) -> AsyncIterator[Bed]:
    async with BEDS[request.param](db) as made:
        yield made


def key() -> str:
    return f"weft-{uuid4()}"


async def test_an_authorisation_holds_the_money_and_takes_none(bed: Bed) -> None:
    charge = await bed.charge()
    assert (await bed.gateway.look(charge)).state == RemoteState.NEW
    held = await bed.gateway.authorise(charge)
    assert (held.state, held.captured) == (AUTHORISED, 0)
    assert await bed.gateway.look(charge) == held


async def test_an_authorisation_with_capture_takes_it_all_and_once(bed: Bed) -> None:
    charge = await bed.charge(capture=True)
    for _ in range(3):
        taken = await bed.gateway.authorise(charge)
        assert (taken.state, taken.captured) == (TAKEN, 1000)
    assert (await bed.gateway.look(charge)).captured == 1000


async def test_a_final_capture_of_a_part_takes_the_part_and_closes(bed: Bed) -> None:
    charge = await bed.charge()
    await bed.gateway.authorise(charge)
    part = await bed.gateway.capture(charge, key(), 300, final=True)
    assert (part.state, part.captured) == (TAKEN, 300)
    again = await bed.gateway.look(charge)
    assert (again.captured, dict(again.refunds)) == (300, {})


async def test_captures_follow_each_other_where_the_gateway_lets_them(bed: Bed) -> None:
    if not bed.gateway.several_captures:
        pytest.skip("this gateway captures once")
    charge, first = await bed.charge(), key()
    await bed.gateway.authorise(charge)
    for _ in range(2):
        part = await bed.gateway.capture(charge, first, 300, final=False)
        assert (part.state, part.captured) == (AUTHORISED, 300)
    rest = await bed.gateway.capture(charge, key(), 700, final=False)
    assert (rest.state, rest.captured) == (TAKEN, 1000)


async def test_more_than_is_held_is_not_captured(bed: Bed) -> None:
    charge = await bed.charge()
    await bed.gateway.authorise(charge)
    with pytest.raises(GatewayRefused):
        await bed.gateway.capture(charge, key(), 1001, final=True)
    assert (await bed.gateway.look(charge)).captured == 0


async def test_what_was_given_up_is_never_taken(bed: Bed) -> None:
    charge = await bed.charge()
    await bed.gateway.authorise(charge)
    for _ in range(2):
        assert (await bed.gateway.void(charge, key())).state == VOIDED
    if not bed.keyed:
        return  # localstripe captures what was cancelled; the payer never asks it to.
    try:
        late = await bed.gateway.capture(charge, key(), 1000, final=True)
    except GatewayRefused:
        late = await bed.gateway.look(charge)
    assert (late.state, late.captured) == (VOIDED, 0)


async def test_what_is_given_up_before_it_was_asked_for_is_refused_later(bed: Bed) -> None:
    charge = await bed.charge(capture=True)
    assert (await bed.gateway.void(charge, key())).state == VOIDED
    late = await bed.gateway.authorise(charge)
    assert (late.state, late.captured) == (VOIDED, 0)


async def test_what_was_taken_is_not_given_up_but_given_back(bed: Bed) -> None:
    charge = await bed.charge(capture=True)
    await bed.gateway.authorise(charge)
    assert (await bed.gateway.void(charge, key())).state == TAKEN
    first = key()
    assert (await bed.gateway.refund(charge, first, 400)).refunds[first].done
    seen = await bed.gateway.look(charge)
    assert (seen.captured, seen.refunds[first].amount) == (1000, 400)


async def test_a_refund_is_made_once_for_its_key_and_never_of_too_much(bed: Bed) -> None:
    if not bed.keyed:
        pytest.skip("this server knows no idempotency keys; we look before we ask it again")
    charge, first = await bed.charge(capture=True), key()
    await bed.gateway.authorise(charge)
    for _ in range(2):
        await bed.gateway.refund(charge, first, 600)
    with pytest.raises(GatewayRefused):
        await bed.gateway.refund(charge, key(), 401)
    seen = await bed.gateway.look(charge)
    assert {each.amount for each in seen.refunds.values()} == {600}


async def test_a_card_that_is_declined_says_why(bed: Bed) -> None:
    if not bed.cards:
        pytest.skip("there are no cards")
    token = bed.declined if bed.keyed else "pm_card_chargeCustomerFail"
    declined = await bed.gateway.authorise(charge := await bed.charge(token=token))
    assert declined.state == RemoteState.DECLINED
    assert declined.decline is not None
    assert declined.decline.code
    assert (await bed.gateway.look(charge)).state == RemoteState.DECLINED


async def test_a_customer_who_is_asked_to_authenticate_pays_once_they_have(bed: Bed) -> None:
    if bed.agree is None:
        pytest.skip("nobody is asked here")
    charge = await bed.charge(token=bed.action, capture=True)
    waiting = await bed.gateway.authorise(charge)
    assert (waiting.state, waiting.captured) == (RemoteState.ACTION, 0)
    assert waiting.redirect_url.startswith("https://")
    assert (await bed.gateway.authorise(charge)).state == RemoteState.ACTION
    await bed.agree(charge)
    assert (await bed.gateway.look(charge)).captured == 1000


async def test_a_token_that_is_none_is_refused_and_takes_nothing(bed: Bed) -> None:
    if not bed.cards or bed.gateway.name == "counting":
        pytest.skip("any token will do here")
    try:
        charge = await bed.charge(token="pm_nobody")
        state = (await bed.gateway.authorise(charge)).state
    except GatewayRefused:
        state = RemoteState.DECLINED
    assert state == RemoteState.DECLINED


async def test_a_kept_card_is_charged_again_and_again(bed: Bed) -> None:
    if not bed.cards:
        pytest.skip("there are no cards")
    kept = await bed.gateway.keep(uuid4(), uuid4(), "pm_card_visa", "")
    assert (kept.brand, kept.last4) == ("visa", "4242")
    for _ in range(2):
        charge = replace(await bed.charge(capture=True), source=kept.source)
        charge = replace(charge, ref=bed.gateway.ref(charge) or await bed.gateway.open(charge))
        assert (await bed.gateway.authorise(charge)).captured == 1000


async def test_a_gateway_that_is_not_there_is_away_and_not_refused() -> None:
    async with stripe(f"http://127.0.0.1:{free_port()}") as gateway:
        with pytest.raises(GatewayAway):
            await Bed(gateway=gateway).charge()


async def test_the_bank_waits_for_money_and_forgets_what_was_given_up(db: Database) -> None:
    async with bank(db) as gateway:
        bed = Bed(gateway=gateway, cards=False)
        charge = await bed.charge(capture=True)
        for _ in range(2):
            assert (await gateway.authorise(charge)).state == RemoteState.ACTION
        promised = replace(await bed.charge(), deferred=True)
        assert (await gateway.authorise(promised)).state == AUTHORISED
        for each in (charge, promised):
            assert (await gateway.void(each, key())).state == VOIDED
        never = await bed.charge(capture=True)
        await gateway.void(never, key())
        assert (await gateway.authorise(never)).state == VOIDED
        with pytest.raises(GatewayRefused):
            await gateway.refund(charge, key(), 1)
