"""VAT numbers: their countries' rules, and a register that fails in every way it is known to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
import pytest
from hypothesis import given, strategies as st

from services.billing.domain.tax_number import ATTEMPTS_MAX, number
from services.billing.store import tax_number as store
from services.billing.tax.vies import Vies
from services.billing.tax_settings import TaxSettings
from services.chassis.clock import FakeClock
from services.chassis.testing import Lab, reason, until
from tests.billing.tax.conftest import Billing
from weft.billing.v1 import tax_pb2, vat_number_pb2 as pb
from weft.billing.v1.tax_events_pb2 import VatNumberChecked
from weft.billing.v1.tax_pb2_grpc import TaxServiceStub
from weft.billing.v1.vat_number_pb2_grpc import VatNumberServiceStub

# Numbers that keep their countries' rules; each is made wrong by any change of its last character.
FORMED = [
    "ATU13585627",
    "BE0428759497",
    "BG175074752",
    "CY10259033P",
    "CZ25123891",
    "DE136695976",
    "DK13585628",
    "EE100931558",
    "EL023456780",
    "ESB58378431",
    "FI20774740",
    "FR40303265045",
    "HR33392005961",
    "HU12892312",
    "IE6433435F",
    "IT00743110157",
    "LT119511515",
    "LU15027442",
    "LV40003521600",
    "MT11679112",
    "NL004495445B01",
    "PL8567346215",
    "PT501964843",
    "RO18547290",
    "SE123456789701",
    "SI50223054",
    "SK2022749619",
    "XI980780684",
    "GB980780684",
    "CHE107787577MWST",
]
NUMBER = "FR40303265045"
VALID, INVALID = tax_pb2.VAT_NUMBER_STATE_VALID, tax_pb2.VAT_NUMBER_STATE_INVALID
UNCONFIRMED = tax_pb2.VAT_NUMBER_STATE_UNCONFIRMED
GOOD = {
    "countryCode": "FR",
    "vatNumber": "40303265045",
    "valid": True,
    "requestIdentifier": "WAPIAAAAZ1",
    "name": "SA SODIMAS",
    "address": "---",
}


@pytest.mark.parametrize("written", FORMED)
def test_a_number_that_keeps_its_countrys_rules_is_formed(written: str) -> None:
    spaced = f" {written[:4]} {written[4:7].lower()}.{written[7:]}"
    assert number(written).formed
    assert number(spaced) == number(written)


@pytest.mark.parametrize(
    "written", [each for each in FORMED if each[-1].isdigit() and each[:2] not in {"NL"}]
)
def test_a_changed_digit_is_found_by_the_check_digits(written: str) -> None:
    first = next(place for place in range(2, len(written)) if written[place].isdigit())
    changed = [
        written[:first] + str((int(written[first]) + step) % 10) + written[first + 1 :] for step in (1, 2)
    ]
    assert not all(number(each).formed for each in changed)


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_none_and_nothing_fails(written: str) -> None:
    assert number(written).formed in {True, False}


def test_greece_has_one_form_and_northern_ireland_its_own_country() -> None:
    assert number("GR023456780") == number("EL 023456780")
    assert (number("EL023456780").country, number("XI980780684").country) == ("GR", "XI")


@dataclass
class Register:
    """Stands for VIES: says what a test tells it to, and keeps what it was asked."""

    says: list[bytes] = field(default_factory=list)  # Whole HTTP answers, the last one for ever.
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        self.asked.append(json.loads(await reader.readexactly(length)))
        writer.write(self.says.pop(0) if len(self.says) > 1 else self.says[0])
        writer.close()


def http(body: Any, status: int = 200) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status, len(data), data)


def fault(name: str, status: int = 200) -> bytes:
    return http({"actionSucceed": False, "errorWrappers": [{"error": name}]}, status)


@asynccontextmanager
async def vies() -> AsyncIterator[Register]:
    made = Register()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    async with server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


@dataclass
class World:
    """A billing with a register of its own."""

    lab: Lab
    register: Register

    @property
    def stub(self) -> VatNumberServiceStub:
        return VatNumberServiceStub(self.lab.channel)

    async def check(self, written: str = NUMBER, check_id: str = "", **more: str) -> pb.VatCheck:
        request = pb.CheckVatNumberRequest(check_id=check_id or str(uuid4()), vat_number=written, **more)
        return (await self.stub.CheckVatNumber(request, metadata=self.lab.bearer())).check

    async def get(self, check_id: str) -> pb.VatCheck:
        request = pb.GetVatCheckRequest(check_id=check_id)
        return (await self.stub.GetVatCheck(request, metadata=self.lab.bearer())).check

    async def after(self, check_id: str, attempts: int) -> pb.VatCheck:
        """The check once VIES was asked so often."""

        clock = self.lab.clock
        assert isinstance(clock, FakeClock)

        async def asked() -> pb.VatCheck | None:
            clock.advance(1)  # Who looked just before the clock was set sleeps until it moves on.
            check = await self.get(check_id)
            return check if check.attempts == attempts else None

        answered: pb.VatCheck = await until(asked)
        return answered

    async def tax(self, **more: Any) -> tax_pb2.TaxDetermination:
        request = tax_pb2.DetermineTaxRequest(
            buyer_country="FR", tax_category=tax_pb2.TAX_CATEGORY_STANDARD, vat_number=NUMBER, **more
        )
        return (await TaxServiceStub(self.lab.channel).DetermineTax(request, metadata=self.lab.bearer())).tax

    async def states(self, check_id: str) -> list[int]:
        """Of the events that were told."""
        rows = await self.lab.db("billing").fetch(
            "select type, payload from event where key = $1 order by position", check_id
        )
        return [VatNumberChecked.FromString(row["payload"]).state for row in rows]


@pytest.fixture
async def world(billing: Billing) -> AsyncIterator[World]:
    async with vies() as register:
        chosen = {
            "WEFT_BILLING_VIES_URL": register.url,
            "WEFT_BILLING_VIES_REQUESTER": "DE136695976",
            "WEFT_BILLING_VIES_TIMEOUT_S": "30",
        }
        async with billing(**chosen) as lab:
            yield World(lab, register)


async def test_a_confirmed_number_leaves_its_evidence_and_reverses_the_charge(world: World) -> None:
    world.register.says = [http(GOOD)]
    check = await world.check("fr 40.303.265.045")
    assert (check.state, check.vat_number, check.reason) == (VALID, NUMBER, "")
    assert (check.consultation_number, check.trader_name, check.trader_address) == (
        "WAPIAAAAZ1",
        "SA SODIMAS",
        "",
    )
    assert check.answer_time == check.create_time
    assert not check.HasField("retry_time")
    assert world.register.asked == [
        {
            "countryCode": "FR",
            "vatNumber": "40303265045",
            "requesterMemberStateCode": "DE",
            "requesterNumber": "136695976",
        }
    ]
    tax = await world.tax(supply=tax_pb2.SUPPLY_SERVICES)
    assert (tax.category_code, tax.rate, tax.reverse_charge, tax.exemption_code) == (
        "AE",
        "0",
        True,
        "VATEX-EU-AE",
    )
    assert (await world.tax()).category_code == "K"
    assert await world.states(check.check_id) == [UNCONFIRMED, VALID]


async def test_a_number_that_vies_does_not_know_is_invalid_and_bears_tax(world: World) -> None:
    world.register.says = [http(GOOD | {"valid": False, "userError": "INVALID", "name": "---"})]
    check = await world.check()
    assert (check.state, check.reason, check.trader_name) == (INVALID, "NOT_REGISTERED", "")
    tax = await world.tax()
    assert (tax.category_code, tax.rate, tax.vat_number_state, tax.provisional) == ("S", "20", INVALID, False)


async def test_a_malformed_number_asks_nobody(world: World) -> None:
    world.register.says = [http(GOOD)]
    check = await world.check("FR41303265045")
    assert (check.state, check.reason, check.attempts) == (INVALID, "FORMAT", 0)
    assert world.register.asked == []
    assert await world.states(check.check_id) == [INVALID]


async def test_a_country_that_vies_does_not_serve_stays_unconfirmed(world: World) -> None:
    check = await world.check("GB980780684")
    assert (check.state, check.reason) == (UNCONFIRMED, "NOT_IN_VIES")
    assert not check.HasField("retry_time")
    assert world.register.asked == []


FAULTS = {
    "member away": (fault("MS_UNAVAILABLE"), "MS_UNAVAILABLE"),
    "too many at once": (fault("GLOBAL_MAX_CONCURRENT_REQ", 400), "GLOBAL_MAX_CONCURRENT_REQ"),
    "too many of the member": (fault("MS_MAX_CONCURRENT_REQ", 500), "MS_MAX_CONCURRENT_REQ"),
    "says false and why beside it": (
        http(GOOD | {"valid": False, "userError": "MS_UNAVAILABLE"}),
        "MS_UNAVAILABLE",
    ),
    "its own timeout": (http({"isValid": False, "userError": "TIMEOUT"}), "TIMEOUT"),
    "a page of HTML": (http(b"<html>Bad gateway</html>", 502), "UNREADABLE"),
    "an empty page": (http(b""), "UNREADABLE"),
    "a list": (http([1]), "UNREADABLE"),
    "valid is a text": (http(GOOD | {"valid": "false"}), "UNREADABLE"),
    "another number": (http(GOOD | {"vatNumber": "00000000000"}), "UNREADABLE"),
    "a flood": (http(b"[" + b" " * 100_000 + b"]"), "UNREADABLE"),
    "false, with status 503": (http(GOOD | {"valid": False}, 503), "HTTP_503"),
    "half an answer": (b"HTTP/1.1 200 X\r\ncontent-length: 999\r\n\r\n{", "UNREACHABLE"),
    "no HTTP": (b"\0\0\0", "UNREACHABLE"),
    "nothing": (b"", "UNREACHABLE"),
}


async def test_no_fault_of_vies_makes_a_number_invalid_and_each_is_tried_again(world: World) -> None:
    for name, (said, why) in FAULTS.items():
        world.register.says = [said]
        check = await world.check()
        assert (name, check.state, check.reason, check.attempts) == (name, UNCONFIRMED, why, 1)
        assert check.retry_time.seconds - check.create_time.seconds == 60
        assert not check.HasField("answer_time")
    tax = await world.tax()
    assert (tax.category_code, tax.provisional) == ("S", True)


async def test_a_silent_vies_is_waited_for_no_longer_than_its_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        slow = Vies(TaxSettings(vies_url=f"http://127.0.0.1:{port}", vies_timeout_s=0.05))
        answer = await slow.ask(number(NUMBER))
    assert (answer.state, answer.reason) == ("UNCONFIRMED", "TIMEOUT")


async def test_an_unconfirmed_number_is_asked_about_again_until_vies_answers(world: World) -> None:
    clock = world.lab.clock
    assert isinstance(clock, FakeClock)
    world.register.says = [fault("MS_UNAVAILABLE"), fault("MS_UNAVAILABLE"), http(GOOD)]
    check = await world.check()
    asked = 1
    while check.state == UNCONFIRMED:
        assert len(world.register.asked) == asked
        clock.advance(60 * 2 ** (asked - 1) + 15)
        asked += 1

        check = await world.after(check.check_id, asked)
    assert (check.state, check.attempts, check.reason) == (VALID, 3, "")
    assert await world.states(check.check_id) == [UNCONFIRMED, VALID]
    clock.advance(90 * 86_400 + 1)
    assert (await world.tax()).vat_number_state == UNCONFIRMED


async def test_vies_is_asked_a_bounded_number_of_times(world: World) -> None:
    world.register.says = [fault("MS_UNAVAILABLE")]
    check = await world.check()
    await world.lab.db("billing").execute("update vat_check set attempts = $1", ATTEMPTS_MAX - 1)
    clock = world.lab.clock
    assert isinstance(clock, FakeClock)
    clock.advance(100)

    async def given_up() -> bool:
        clock.advance(1)
        return not (await world.get(check.check_id)).HasField("retry_time")

    await until(given_up)
    assert (await world.get(check.check_id)).state == UNCONFIRMED


async def test_a_repeat_answers_what_is_known_and_another_number_is_refused(world: World) -> None:
    world.register.says = [http(GOOD)]
    check_id = str(uuid4())
    first = await world.check(check_id=check_id)
    assert await world.check("FR 40 303 265 045", check_id=check_id) == first
    assert len(world.register.asked) == 1
    with pytest.raises(grpc.aio.AioRpcError) as reused:
        await world.check("DE136695976", check_id=check_id)
    assert reason(reused.value) == "VAT_CHECK_ID_REUSED"
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await world.get(str(uuid4()))
    assert reason(unknown.value) == "UNKNOWN_VAT_CHECK"


async def test_64_callers_with_one_id_ask_vies_once(world: World) -> None:
    world.register.says = [http(GOOD)]
    check_id = str(uuid4())
    asked = (world.check(check_id=check_id) for _ in range(64))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    checks = [answer for answer in answers if isinstance(answer, pb.VatCheck)]
    busy = [answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {check.state for check in checks} <= {VALID, UNCONFIRMED}
    assert set(busy) <= {grpc.StatusCode.UNAVAILABLE}
    assert len(world.register.asked) == 1
    assert (await world.get(check_id)).state == VALID


async def test_customers_check_and_see_their_own_numbers_and_no_others(world: World) -> None:
    world.register.says = [http(GOOD)]
    me, other = str(uuid4()), str(uuid4())
    mine = world.lab.bearer(me, scope="account", kind="user")
    asked = pb.CheckVatNumberRequest(check_id=str(uuid4()), vat_number=NUMBER, customer_id=me)
    await world.stub.CheckVatNumber(asked, metadata=mine)
    await world.check(customer_id=other)
    seen = await world.stub.ListVatChecks(pb.ListVatChecksRequest(customer_id=me), metadata=mine)
    assert [check.check_id for check in seen.checks] == [asked.check_id]
    for foreign in (pb.ListVatChecksRequest(customer_id=other), pb.ListVatChecksRequest()):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.stub.ListVatChecks(foreign, metadata=mine)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_erasure_keeps_the_evidence_and_nothing_personal(world: World) -> None:
    world.register.says = [http(GOOD)]
    customer = uuid4()
    check = await world.check(customer_id=str(customer))
    async with world.lab.db("billing").transaction() as tx:
        await store.erase(tx, customer)
    left = await world.get(check.check_id)
    assert (left.vat_number, left.trader_name, left.trader_address) == ("", "", "")
    assert (left.consultation_number, left.state, left.answer_time) == (
        "WAPIAAAAZ1",
        VALID,
        check.answer_time,
    )
