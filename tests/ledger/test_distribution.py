"""Sharing out: Numscript's own cases, every minor unit accounted for, and 64 callers for the same money."""

import asyncio
import gzip
import json
from collections import Counter
from fractions import Fraction
from typing import Any
from uuid import uuid4

import grpc.aio
import pytest
from hypothesis import given, strategies as some

from services.chassis.testing import reason
from services.ledger.domain.distribution import (
    DEPTH_MAX,
    Account,
    InOrder,
    InsufficientFunds,
    Plan,
    PortionsRefused,
    Shares,
    To,
)
from tests import data
from tests.ledger.books import PURSE, Books
from tests.ledger.numscript import Script, Unsupported
from weft.ledger.v1 import distribution_pb2 as pb
from weft.ledger.v1.distribution_pb2_grpc import DistributionServiceStub
from weft.money.v1.money_pb2 import Money


def verdict(script: str, spec: Any, case: Any) -> str:
    """`unsupported`, `agrees`, or what differs."""
    known = [*spec.get("balances", []), *case.get("balances", [])]
    balances = {(each["account"], each["asset"]): each["amount"] for each in known}
    variables = {**spec.get("variables", {}), **case.get("variables", {})}
    try:
        run = Script(script, variables, balances)
        run.run()
    except InsufficientFunds:
        return "agrees" if case.get("expect.error.missingFunds") else "refused"
    except Unsupported:
        return "unsupported"
    expected = [
        (each["source"], each["destination"], each["amount"], each["asset"])
        for each in case.get("expect.postings", [])
    ]
    return "agrees" if run.postings == expected else f"{run.postings} for {expected}"


def test_numscripts_own_cases_come_out_as_formance_says() -> None:
    """Left out: what has no counterpart here (metadata, colours, scaling, functions, `save`, `oneof`)."""
    path = data.shared("10_ledger/numscript_cases.json.gz")
    with gzip.open(path, "rt") as file:
        scripts = json.load(file)
    verdicts, differing = Counter[str](), []
    for each in scripts:
        for case in each["spec"]["testCases"]:
            if each["spec"].get("featureFlags"):
                verdicts["unsupported"] += 1
                continue
            found = verdict(each["script"], each["spec"], case)
            verdicts[found] += 1
            if found not in ("agrees", "unsupported"):
                differing.append((each["path"], case["it"], found))
    assert differing == []
    assert verdicts == {"agrees": 98, "unsupported": 84}


NAMES = some.sampled_from(["a", "b", "c", "d"])
PARTS = some.lists(some.integers(0, 9), min_size=1, max_size=4).filter(any)


def shares(draw: some.DrawFn, make: Any) -> Shares:
    """Portions that sum to one, the last at times as what the others leave."""
    weights = draw(PARTS)
    portions: list[Fraction | None] = [Fraction(weight, sum(weights)) for weight in weights]
    if draw(some.booleans()):
        portions[-1] = None
    return Shares([(portion, draw(make)) for portion in portions])


@some.composite
def sources(draw: some.DrawFn, depth: int = 2) -> Any:
    kind = draw(some.integers(0, 2 if depth else 0))
    most = draw(some.none() | some.integers(0, 300))
    if kind == 0:
        return Account(draw(NAMES), draw(some.sampled_from([0, 5, 100, None])), most)
    if kind == 1:
        return InOrder(draw(some.lists(sources(depth - 1), min_size=1, max_size=3)), most)
    return shares(draw, sources(depth - 1))


@some.composite
def targets(draw: some.DrawFn, depth: int = 2) -> Any:
    kind = draw(some.integers(0, 2 if depth else 0))
    if kind == 0:
        return To(draw(some.sampled_from(["x", "y", "z", ""])))
    if kind == 1:
        first = To(draw(some.sampled_from(["x", ""])), draw(some.integers(0, 200)))
        return InOrder([first, draw(targets(depth - 1))])
    return shares(draw, targets(depth - 1))


@given(sources(), targets(), some.integers(0, 1000), some.integers(-50, 500))
def test_what_is_taken_is_given_or_kept_to_the_last_minor_unit(
    source: Any, target: Any, amount: int, has: int
) -> None:
    before = {name: has for name in "abcd"}
    plan = Plan(dict(before))
    try:
        plan.send(amount, source, target)
    except (InsufficientFunds, PortionsRefused):
        return
    assert plan.taken == []
    given = Counter[str]()
    for giver, receiver, minor in plan.postings:
        assert minor > 0
        given[giver] -= minor
        given[receiver] += minor
    assert {name: plan.balances.get(name, 0) - before.get(name, 0) for name in given} == dict(given)
    assert sum(minor for _, _, minor in plan.postings) <= amount


@pytest.mark.parametrize(
    ("portions", "problem"),
    [([Fraction(1, 2)], "sum to 1/2"), ([Fraction(2, 3)] * 2, "sum to 4/3"), ([None, None], "Only one")],
    ids=["half", "too-much", "two-rests"],
)
def test_portions_that_are_not_the_whole_are_refused(portions: list[Fraction | None], problem: str) -> None:
    with pytest.raises(PortionsRefused, match=problem):
        Plan({}).send(10, Account("a", None), Shares([(each, To("x")) for each in portions]))


def test_a_list_that_ends_with_a_bound_and_one_too_deep_are_refused() -> None:
    with pytest.raises(PortionsRefused, match="no bound"):
        Plan({}).send(10, Account("a", None), InOrder([To("x", 3)]))
    deep: Any = Account("a", None)
    for _ in range(DEPTH_MAX + 1):
        deep = InOrder([deep])
    with pytest.raises(PortionsRefused, match="deep"):
        Plan({}).send(10, deep, To("x"))


def sale(purse: str, market: str, seller: str) -> pb.CreateDistributionRequest:
    """10 % to the market, the rest to the seller."""
    share = pb.DestinationShare
    return pb.CreateDistributionRequest(
        distribution_id=str(uuid4()),
        amount=Money(amount_minor=99, currency="EUR"),
        source=pb.Source(account=pb.SourceAccount(account_id=purse)),
        destination=pb.Destination(
            shares=pb.DestinationShares(
                shares=[
                    share(portion="10%", destination=pb.Destination(account_id=market)),
                    share(destination=pb.Destination(account_id=seller)),
                ]
            )
        ),
    )


async def test_64_callers_share_out_only_what_is_there(books: Books) -> None:
    stub = DistributionServiceStub(books.lab.channel)
    purse, market, seller = await books.account(limit=PURSE), await books.account(), await books.account()
    await books.move(seller, purse, 1000)
    calls = (stub.CreateDistribution(sale(purse, market, seller), metadata=books.who) for _ in range(64))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert {reason(each) for each in refused} == {"INSUFFICIENT_FUNDS"}
    assert len(refused) == 54
    assert await books.sums(purse) == (990, 1000, 0, 0)
    assert await books.sums(market) == (0, 100, 0, 0)
    assert await books.sums(seller) == (1000, 890, 0, 0)


async def test_a_repeat_answers_the_same_and_another_body_is_refused(books: Books) -> None:
    stub = DistributionServiceStub(books.lab.channel)
    purse, market, seller = [await books.account() for _ in range(3)]
    await books.move(seller, purse, 99)
    request = sale(purse, market, seller)
    first = await stub.CreateDistribution(request, metadata=books.who)
    assert await stub.CreateDistribution(request, metadata=books.who) == first
    assert [each.amount.amount_minor for each in first.transfers] == [10, 89]
    request.amount.amount_minor = 98
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.CreateDistribution(request, metadata=books.who)
    assert reason(error.value) == "TRANSFER_ID_REUSED"
    request = sale(str(uuid4()), market, seller)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.CreateDistribution(request, metadata=books.who)
    assert reason(error.value) == "UNKNOWN_ACCOUNT"
