"""What edges are told, through gRPC, and what is counted of it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from services.chassis.testing import until
from tests.ratelimit.edge import OK, OVER, Edge, refused
from weft.ratelimit.v1 import ratelimit_pb2 as pb


async def test_a_call_that_no_limit_meets_passes(edge: Edge) -> None:
    answer = await edge.ask(rpc="weft.nothing.v1.X.Y", user="u")
    assert (answer.overall_code, list(answer.response_headers_to_add)) == (OK, [])


@pytest.mark.parametrize("unit", ["HOUR", "MONTH"])
async def test_of_64_calls_at_once_as_many_pass_as_may(edge: Edge, unit: str) -> None:
    rpc = f"weft.at{unit.lower()}.v1.X.Y"
    made = await edge.make(f"at-{unit.lower()}", rpc, unit=pb.Unit.Value(f"UNIT_{unit}"), requests=10)
    both = await asyncio.gather(*(edge.passes(rpc=rpc, user=user) for user in ("a", "b") * 64))
    assert (sum(both[::2]), sum(both[1::2])) == (10, 10)
    await edge.servicer.sweep()
    assert await edge.usage(made.rate_limit_id) == {user: (10, 10, 54) for user in ("a", "b")}


async def test_callers_are_told_what_they_have_and_when_to_come_back(edge: Edge) -> None:
    rpc = "weft.told.v1.X.Y"
    await edge.make("told", rpc, requests=2)
    answers = [await edge.ask(rpc=rpc, user="u") for _ in range(3)]
    told = [{each.key: each.value for each in answer.response_headers_to_add} for answer in answers]
    assert [answer.overall_code for answer in answers] == [OK, OK, OVER]
    assert {each["ratelimit-policy"] for each in told} == {'"told";q=2;w=3600'}
    assert [each["ratelimit"].split(";")[:2] for each in told] == [
        ['"told"', f"r={left}"] for left in (1, 0, 0)
    ]
    assert 0 < int(told[2]["retry-after"]) <= 1_800
    assert "retry-after" not in told[0]


async def test_a_call_that_one_limit_refuses_spends_nothing_of_another(edge: Edge) -> None:
    rpc = "weft.several.v1.X.Y"
    wide = await edge.make("wide", rpc, unit=pb.UNIT_MONTH, requests=5)
    await edge.make("narrow", rpc, requests=2)
    assert [await edge.passes(rpc=rpc, user="u") for _ in range(6)] == [True] * 2 + [False] * 4
    reset = pb.UpdateRateLimitRequest(rate_limit_id=wide.rate_limit_id, settings=wide.settings)
    reset.settings.name = "wider"
    await edge.stub.UpdateRateLimit(reset, metadata=edge.lab.bearer())
    used, _, _ = (await edge.usage(wide.rate_limit_id))["u"]
    assert used <= 3  # Two that passed, and one that was taken and kept for the next.


async def test_a_limit_that_only_counts_refuses_nobody(edge: Edge) -> None:
    rpc = "weft.shadow.v1.X.Y"
    made = await edge.make("shadow", rpc, shadow=True, requests=2)
    assert [await edge.passes(rpc=rpc, user="u") for _ in range(5)] == [True] * 5
    await edge.servicer.sweep()
    assert await edge.usage(made.rate_limit_id) == {"u": (2, 2, 3)}


async def test_limits_go_by_what_they_name(edge: Edge) -> None:
    rpc, one = "weft.kinds.v1.X.Y", {"requests": 1, "unit": pb.UNIT_HOUR}
    kinds = {
        "user": pb.KEY_KIND_USER,
        "api_key": pb.KEY_KIND_API_KEY,
        "plan": pb.KEY_KIND_PLAN,
        "masked_remote_address": pb.KEY_KIND_ADDRESS,
    }
    for entry, kind in kinds.items():
        await edge.make(f"by-{entry.replace('_', '-')}", rpc, key=kind, **one)
    await edge.make("by-header", rpc, key=pb.KEY_KIND_HEADER, header="x-tenant", **one)
    for entry in (*kinds, "header_x_tenant"):
        said = [await edge.passes(rpc=rpc, **{entry: value}) for value in ("a", "a", "b")]
        assert (entry, said) == (entry, [True, False, True])
    assert [await edge.passes(rpc=rpc, api_key="weft") for _ in range(3)] == [True] * 3


async def test_a_call_may_count_for_many(edge: Edge) -> None:
    rpc = "weft.heavy.v1.X.Y"
    await edge.make("heavy", rpc, requests=10)
    codes = [(await edge.ask(hits, rpc=rpc, user="u")).overall_code for hits in (7, 4, 3, 1)]
    assert codes == [OK, OVER, OK, OVER]


async def test_who_begins_anew_may_call_again(edge: Edge) -> None:
    rpc = "weft.anew.v1.X.Y"
    made = await edge.make("anew", rpc, unit=pb.UNIT_MONTH, requests=1)
    assert [await edge.passes(rpc=rpc, user=user) for user in "aabb"] == [True, False] * 2

    async def reset(key: str) -> None:
        asked = pb.ResetUsageRequest(rate_limit_id=made.rate_limit_id, key=key)
        await edge.stub.ResetUsage(asked, metadata=edge.lab.bearer())

    await reset("a")
    await until(lambda: edge.passes(rpc=rpc, user="a"))
    assert not await edge.passes(rpc=rpc, user="b")
    await reset("")
    await until(lambda: edge.passes(rpc=rpc, user="b"))
    assert await edge.announced(made.rate_limit_id) == ["RateLimitCreated", *["RateLimitUsageReset"] * 2]


async def test_with_the_database_away_each_limit_does_as_it_declares(edge: Edge) -> None:
    rules = {"open": pb.FAILURE_RULE_OPEN, "vault": pb.FAILURE_RULE_CLOSED}
    for name, rule in rules.items():
        await edge.make(name, f"weft.{name}.v1.X.Y", failure=rule, requests=1_000)
        assert await edge.passes(rpc=f"weft.{name}.v1.X.Y", user="u")
    db: Any = edge.lab.db("ratelimit")
    room, db._room = db._room, Shut()
    try:
        assert await edge.passes(rpc="weft.open.v1.X.Y", user="v")
        unknown = edge.ask(rpc="weft.vault.v1.X.Y", user="v")
        assert await refused(unknown) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_AWAY")
    finally:
        db._room = room

    async def back() -> bool:
        try:
            return await edge.passes(rpc="weft.vault.v1.X.Y", user="v")
        except grpc.aio.AioRpcError:
            return False

    await until(back)


class Shut:
    """The database's door."""

    def locked(self) -> bool:
        return False

    async def acquire(self) -> None:
        from services.chassis.db import DatabaseAway

        raise DatabaseAway
