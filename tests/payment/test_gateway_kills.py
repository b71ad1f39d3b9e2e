"""Killed between any two lines, and answered in any way: the gateway takes once what we say it took."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from services.chassis.clock import FakeClock
from services.chassis.errors import Refusal
from services.payment.app import build
from services.payment.domain.remote import RemoteState
from services.payment.domain.sealing import Sealer
from services.payment.paying import Means, Payer
from services.payment.recovering import Recovery
from services.payment.service.intents import Intents
from services.payment.service.refunds import Refunds
from services.payment.service.shared import Shared
from services.payment.settings import PaymentSettings
from tests import databases
from tests.payment.bench import Killed, Lines, MortalDatabase, MortalGateway, mortal
from tests.payment.counting import Counting, Fault
from tests.payment.till import money, request, state_of
from weft.payment.v1 import events_pb2, intent_pb2 as pb, refund_pb2

OWN = Path(build.__code__.co_filename).parent / "migrations"
SETTINGS = PaymentSettings(call_s=0.2, lease_s=5, retry_first_s=1, retry_max_s=30, poll_s=5)
STRIDE = 9  # Of the lines at which the short form kills.
LINES_MAX = 400  # A scenario has about fifty.
SEEDS_SHORT, SEEDS_LONG = range(4), range(150)


@dataclass
class World:
    """One payment, its gateway, and a process that can be killed and started again."""

    db: MortalDatabase
    clock: FakeClock
    gateway: Counting
    wanted: pb.CreateIntentRequest = field(default_factory=lambda: request(confirm=True))

    @property
    def lines(self) -> Lines:
        return self.db.lines

    @property
    def intent_id(self) -> UUID:
        return UUID(self.wanted.intent_id)

    @property
    def taken(self) -> int:
        """What the gateway keeps, in the end."""
        return sum(each.captured - sum(each.refunds.values()) for each in self.gateway.of(self.intent_id))

    @property
    def held(self) -> int:
        """What it holds and has not taken."""
        accounts = self.gateway.of(self.intent_id)
        holding = [each for each in accounts if each.state == RemoteState.AUTHORISED]
        return sum(each.amount - each.captured for each in holding)

    def process(self) -> tuple[Intents, Refunds, Recovery, Payer]:
        """Another start of the service: it remembers nothing."""
        gateways = {"counting": MortalGateway(self.gateway, self.lines)}
        means = Means(
            db=self.db,
            clock=self.clock,
            gateways=gateways,  # type: ignore[arg-type] # it passes everything on
            sealer=Sealer("x" * 32),
            settings=SETTINGS,
        )
        payer = Payer(means)
        shared = Shared(means=means, payer=payer, cards="counting", page_key="y" * 32)
        return Intents(shared), Refunds(shared), Recovery(means, payer), payer

    async def create(self) -> pb.Intent:
        intents, *_ = self.process()
        return (await intents.CreateIntent(self.wanted, None)).intent

    async def confirm(self) -> pb.Intent:
        intents, *_ = self.process()
        wanted = pb.ConfirmIntentRequest(intent_id=self.wanted.intent_id)
        return (await intents.ConfirmIntent(wanted, None)).intent

    async def cancel(self) -> pb.Intent:
        intents, *_ = self.process()
        wanted = pb.CancelIntentRequest(intent_id=self.wanted.intent_id)
        return (await intents.CancelIntent(wanted, None)).intent

    def capture(self, minor: int) -> Callable[[], Awaitable[object]]:
        wanted = pb.CaptureIntentRequest(
            intent_id=self.wanted.intent_id, capture_id=str(uuid4()), amount=money(minor)
        )
        return lambda: self.process()[0].CaptureIntent(wanted, None)

    def refund(self, minor: int) -> Callable[[], Awaitable[object]]:
        wanted = refund_pb2.CreateRefundRequest(
            intent_id=self.wanted.intent_id, refund_id=str(uuid4()), amount=money(minor)
        )
        return lambda: self.process()[1].CreateRefund(wanted, None)

    async def recover(self) -> None:
        """A new process looks after what is left, until nothing is."""
        _, _, recovery, _ = self.process()
        for rounds in range(30):
            self.clock.advance(SETTINGS.retry_max_s + 1)
            await recovery.round()
            if rounds > 1 and not await self.pending():
                return
        raise AssertionError("it never comes to rest")

    async def pending(self) -> int:
        sql = "select count(*) from operation where state = 'PENDING' and intent_id = $1"
        return int(await self.db.fetchval(sql, self.intent_id))

    async def get(self) -> pb.Intent:
        intents, *_ = self.process()
        return (await intents.GetIntent(pb.GetIntentRequest(intent_id=self.wanted.intent_id), None)).intent

    async def told(self, kind: type[events_pb2.PaymentCaptured] | type[events_pb2.PaymentRefunded]) -> int:
        """The sum of what was announced."""
        sql = "select payload from event where key = $1 and type = $2"
        rows = await self.db.fetch(sql, self.wanted.intent_id, kind.DESCRIPTOR.full_name)
        return sum(kind.FromString(row["payload"]).amount.amount_minor for row in rows)

    async def judge(self) -> pb.Intent:
        """What we say is what the gateway did, once."""
        found, accounts = await self.get(), self.gateway.of(self.intent_id)
        kept = found.captured.amount_minor - found.refunded.amount_minor
        assert sum(each.takings for each in accounts) <= 1
        assert self.taken == kept
        assert self.held == (
            found.authorised.amount_minor - found.captured.amount_minor
            if state_of(found) == "AUTHORISED"
            else 0
        )
        assert await self.told(events_pb2.PaymentCaptured) == found.captured.amount_minor
        assert await self.told(events_pb2.PaymentRefunded) == found.refunded.amount_minor
        assert await self.pending() == 0
        return found


Step = Callable[[], Awaitable[object]]
Scenario = Callable[[World], list[Step]]


def paid(world: World) -> list[Step]:
    return [world.create]


def captured_in_parts(world: World) -> list[Step]:
    world.wanted.capture = pb.CAPTURE_MODE_MANUAL
    return [world.create, world.capture(300), world.capture(700)]


def cancelled(world: World) -> list[Step]:
    world.wanted.capture = pb.CAPTURE_MODE_MANUAL
    return [world.create, world.cancel]


def released_after_a_part(world: World) -> list[Step]:
    world.wanted.capture = pb.CAPTURE_MODE_MANUAL
    return [world.create, world.capture(300), world.cancel]


def refunded(world: World) -> list[Step]:
    return [world.create, world.refund(400), world.refund(600)]


def authenticated(world: World) -> list[Step]:
    world.wanted.card_token = "tok_action"

    async def agree() -> None:
        for account in world.gateway.of(world.intent_id):
            if account.state == RemoteState.ACTION:
                world.gateway.take(account)

    return [world.create, agree, world.confirm]


def declined(world: World) -> list[Step]:
    world.wanted.card_token = "tok_decline"
    return [world.create]


ENDS: dict[Scenario, tuple[str, int, int]] = {
    paid: ("SUCCEEDED", 1000, 0),
    captured_in_parts: ("SUCCEEDED", 1000, 0),
    cancelled: ("CANCELLED", 0, 0),
    released_after_a_part: ("SUCCEEDED", 300, 0),
    refunded: ("SUCCEEDED", 1000, 1000),
    authenticated: ("SUCCEEDED", 1000, 0),
    declined: ("FAILED", 0, 0),
}


@pytest.fixture(scope="module")
async def db(postgres: str) -> AsyncIterator[MortalDatabase]:
    async with databases.fresh(postgres, databases.CHASSIS, OWN) as url:
        db = mortal(url, FakeClock(), Counting())
        yield db
        await db.close()


async def play(world: World, scenario: Scenario, killed_at: int) -> bool:
    """Plays it with one death, after which the caller repeats what was not answered. Whether it died."""
    died = False
    world.lines.passed, world.lines.killed_at = 0, killed_at
    for step in scenario(world):
        try:
            await step()
        except Killed:
            died = True
            world.lines.killed_at = -1
            await world.recover()
            await step()
    world.lines.killed_at = -1
    await world.recover()
    return died


async def kill_everywhere(db: MortalDatabase, scenario: Scenario, lines: range) -> None:
    db.gateway.forgetful = True  # Nothing of ours is late here, so looking before asking must suffice.
    for killed_at in lines:
        world = World(db, db.clock, db.gateway)  # type: ignore[arg-type] # mortal() gives it a FakeClock
        died = await play(world, scenario, killed_at)
        found = await world.judge()
        ended = (state_of(found), found.captured.amount_minor, found.refunded.amount_minor)
        assert ended == ENDS[scenario], f"killed at line {killed_at}"
        if not died:
            assert killed_at > 5, "it was never killed"
            return
    raise AssertionError("there are more lines than were tried")


@pytest.mark.parametrize("scenario", ENDS, ids=lambda each: each.__name__)
async def test_a_payment_survives_death_at_some_lines(db: MortalDatabase, scenario: Scenario) -> None:
    first = list(ENDS).index(scenario) % STRIDE
    await kill_everywhere(db, scenario, range(first, LINES_MAX, STRIDE))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ENDS, ids=lambda each: each.__name__)
async def test_a_payment_survives_death_at_every_line(db: MortalDatabase, scenario: Scenario) -> None:
    await kill_everywhere(db, scenario, range(LINES_MAX))


async def insist(world: World, step: Step, chance: random.Random) -> None:
    """Asks until it is answered, or the caller has had enough."""
    for _ in range(chance.randrange(1, 4)):
        world.lines.killed_at = world.lines.passed + chance.randrange(60)
        try:
            await step()
        except Killed:
            continue
        except Refusal:
            break
        else:
            break
    world.lines.killed_at = -1


async def storm(db: MortalDatabase, seed: int) -> None:
    """Any faults and deaths, callers who repeat and give up, slow calls that are done in the end."""
    chance = random.Random(seed)
    db.gateway.forgetful = False
    world = World(db, db.clock, db.gateway)  # type: ignore[arg-type] # mortal() gives it a FakeClock
    scenario = chance.choice(list(ENDS))
    faults = [None, None, *Fault]
    world.gateway.faults = [chance.choice(faults) for _ in range(chance.randrange(12))]
    for step in scenario(world):
        await insist(world, step, chance)
        if chance.random() < 0.3:
            world.gateway.finish_late()
        if chance.random() < 0.3:
            await world.recover()
    world.gateway.faults.clear()
    await world.recover()
    world.gateway.finish_late()
    _, _, _, payer = world.process()
    if await db.fetchval("select count(*) from intent where intent_id = $1", world.intent_id):
        await payer.look(world.intent_id)
        await world.recover()
        await world.judge()


@pytest.mark.parametrize("seed", SEEDS_SHORT)
async def test_a_payment_survives_faults_and_deaths_together(db: MortalDatabase, seed: int) -> None:
    await storm(db, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_payment_survives_very_many_faults_and_deaths(db: MortalDatabase) -> None:
    for seed in SEEDS_LONG:
        await storm(db, seed)


async def test_what_is_taken_after_the_time_was_over_is_given_back_by_itself(db: MortalDatabase) -> None:
    world = World(db, db.clock, db.gateway)  # type: ignore[arg-type] # mortal() gives it a FakeClock
    world.wanted.expire_time.FromDatetime(world.clock.now() + timedelta(minutes=30))
    world.gateway.faults = [None, Fault.SLOW]
    assert state_of(await world.create()) == "PROCESSING"
    world.gateway.faults = [Fault.REFUSED_CONNECTION] * 10
    world.clock.advance(31 * 60)
    _, _, recovery, _ = world.process()
    await recovery.round()
    assert state_of(await world.get()) == "CANCELLED"
    world.gateway.finish_late()
    assert world.taken == 1000
    world.gateway.faults.clear()
    await world.recover()
    found = await world.judge()
    assert (state_of(found), found.captured.amount_minor, found.refunded.amount_minor) == (
        "CANCELLED",
        1000,
        1000,
    )
    assert [each.reason for each in found.refunds] == ["late"]
    assert world.taken == 0


async def test_a_release_that_overtakes_the_question_leaves_nothing_taken(db: MortalDatabase) -> None:
    world = World(db, db.clock, db.gateway)  # type: ignore[arg-type] # mortal() gives it a FakeClock
    world.gateway.faults = [None, Fault.SLOW]
    await world.create()
    assert state_of(await world.cancel()) == "CANCELLED"
    world.gateway.finish_late()
    await world.recover()
    await world.judge()
    assert world.taken == world.held == 0
