"""Calls are dealt, tried again, bounded, mirrored, hurt and switched by a real Envoy as the registry says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.clock import FakeClock
from services.chassis.testing import until
from services.registry.envoys import Envoys
from services.registry.steward import Steward
from tests.registry.answering import METHOD, Envoy, answering, envoy, xds_client
from tests.registry.calling import Caller, calling
from tests.registry.mesh import Mesh, refused
from weft.registry.v1 import fault_pb2
from weft.registry.v1.traffic_policy_rules_pb2 import RETRY_ON_UNAVAILABLE

ALL = {"shares": [{"version": "1", "weight": 1}]}
AT_ONCE = 32
SWITCHES = 5


@pytest.fixture(scope="module")
def running(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with envoy(mesh.address, mesh.listener, tmp_path_factory.mktemp("envoy"), "DELTA_GRPC") as started:
        yield started


@asynccontextmanager
async def versions(mesh: Mesh, running: Envoy, service: str, count: int) -> AsyncIterator[Any]:
    """Who calls a service through the Envoy, and its instances, of the versions 1, 2 …"""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(answering(str(n))) for n in range(1, count + 1)]
        caller = await stack.enter_async_context(calling(running.listener, service))
        for each in made:
            await mesh.register(service, port=each.port, version=each.name)
        await caller.until_answering({each.name for each in made})
        yield caller, *made


async def test_segments_go_to_their_versions(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "segments", 3) as (caller, *_):
        rules = [
            {"claim": "plan", "one_of": {"values": ["pro", "a.b|c (d)"]}, "version": "2"},
            {"claim": "home_city", "prefix": "Ber", "version": "3"},
            {"claim": "home_city", "exact": "Bonn", "version": "2"},
        ]
        await mesh.set_policy("segments", **ALL, segment_rules=rules)
        await caller.until_answering({"1"})
        plan, city = "x-weft-segment-plan", "x-weft-segment-home-city"
        said = [
            (plan, "pro"),
            (plan, "a.b|c (d)"),
            (plan, "prof"),
            (plan, "axb"),
            (city, "Berlin"),
            (city, "Bonn"),
        ]
        assert [await caller.who(header) for header in said] == ["2", "2", "1", "1", "3", "2"]


async def test_a_mirror_hears_all_calls_and_is_not_heard(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "mirrored", 2) as (caller, _, second):
        await mesh.set_policy("mirrored", **ALL, mirror={"version": "2", "share": 10_000})
        await caller.until_answering({"1"})
        before = second.calls
        second.act = failing
        assert await caller.answering() == {"1"}

        async def heard() -> bool:
            return second.calls > before

        await until(heard)


def route(**rule: Any) -> dict[str, Any]:
    return {**ALL, "route_rules": [{"method": METHOD, **rule}]}


async def unavailable(context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE)


async def never(context: Any) -> None:
    await asyncio.Event().wait()


async def settle(mesh: Mesh, caller: Caller, service: str, **policy: Any) -> None:
    """Until the policy holds, which sends all calls to version 1."""
    await mesh.set_policy(service, **policy)
    await caller.until_answering({"1"})


async def test_what_an_rpc_may_be_tried_again_for_is_tried_again(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "retried", 2) as (caller, first, _):
        await settle(mesh, caller, "retried", **route(retries={"attempts": 2, "on": [RETRY_ON_UNAVAILABLE]}))
        first.calls, first.act = 0, unavailable
        assert await caller.who() == "UNAVAILABLE"
        assert first.calls == 3


async def test_a_call_lasts_no_longer_than_its_rule(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "timed", 2) as (caller, first, _):
        await settle(mesh, caller, "timed", **route(timeout=Duration(nanos=200_000_000)))
        first.act = never
        assert await caller.who() == "DEADLINE_EXCEEDED"


async def test_a_call_that_is_not_answered_in_time_is_hedged(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "hedged", 2) as (caller, first, _):
        hedging = {"after": Duration(nanos=20_000_000), "more": 3}
        rules = [{"prefix": "/weft.books.", "hedging": hedging}]
        sign = {"header": "x-sign", "value": "policy", "version": "1"}
        await mesh.set_policy("hedged", route_rules=rules, header_rules=[sign])

        async def holds() -> bool:
            return await caller.answering(("x-sign", "policy")) == {"1"}

        await until(holds)
        first.calls, first.act = 0, never
        assert await caller.answering() == {"2"}
        assert first.calls


async def test_a_full_version_refuses_at_once_and_leaves_the_others_alone(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "bounded", 2) as (caller, first, _):
        rules = {"header_rules": [{"header": "x-to", "value": "2", "version": "2"}]}
        await settle(mesh, caller, "bounded", **ALL, **rules, bulkheads=[{"version": "1", "max_requests": 1}])
        begun = asyncio.Event()

        async def hold(context: Any) -> None:
            begun.set()
            await never(context)

        first.act = hold
        held = asyncio.create_task(caller.who())
        await begun.wait()
        assert await caller.who() == "UNAVAILABLE"
        assert await caller.who(("x-to", "2")) == "2"
        held.cancel()


async def test_calls_fail_by_a_fault_until_it_ends(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "hurt", 1) as (caller, _):
        header = {"name": "x-test", "value": "yes"}
        abort, delay = fault_pb2.FaultAbort(code=8), Duration(nanos=1_000_000)
        fault = await mesh.begin_fault(service="hurt", method=METHOD, header=header, abort=abort, delay=delay)
        await until(lambda: says(caller, ("x-test", "yes"), "RESOURCE_EXHAUSTED"))
        assert await caller.who() == "1"
        every = await mesh.begin_fault(service="hurt", prefix="/weft.books.v1", abort={"code": 10})
        await until(lambda: says(caller, None, "ABORTED"))
        assert await caller.who(("x-test", "yes")) == "RESOURCE_EXHAUSTED"
        await mesh.end_fault(fault.fault_id)
        await until(lambda: says(caller, ("x-test", "yes"), "ABORTED"))
        await mesh.lab.db("registry").execute("update fault set ends_at = clock_timestamp()")
        await until(lambda: says(caller, ("x-test", "yes"), "1"))
        for each in (fault, every):
            await until(lambda each=each: ended(mesh, each.fault_id))
        assert await refused(mesh.end_fault(every.fault_id)) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_FAULT")


async def ended(mesh: Mesh, fault_id: str) -> bool:
    return await mesh.announced(fault_id) == ["FaultBegan", "FaultEnded"]


async def says(caller: Caller, header: tuple[str, str] | None, wanted: str) -> bool:
    return await caller.who(header) == wanted


async def test_grpcs_own_client_takes_rules_and_faults(mesh: Mesh) -> None:
    async with answering("1") as first:
        await mesh.register("books", port=first.port, version="1")
        rule = {"retries": {"attempts": 1, "on": [RETRY_ON_UNAVAILABLE]}, "timeout": Duration(seconds=9)}
        segments = [{"claim": "plan", "one_of": {"values": ["a", "b"]}, "version": "1"}]
        await mesh.set_policy("books", **route(**rule), segment_rules=segments)
        await mesh.begin_fault(
            service="books", header={"name": "x-test", "value": "yes"}, abort=fault_pb2.FaultAbort(code=8)
        )
        with xds_client(mesh.address) as call:
            assert await asyncio.to_thread(call, "x-weft-segment-plan b") == "1"

            async def fails() -> bool:
                return (await asyncio.to_thread(call, "x-test yes")).startswith("RESOURCE_EXHAUSTED")

            await until(fails)
            first.calls, first.act = 0, unavailable
            assert (await asyncio.to_thread(call, "")).startswith("UNAVAILABLE")
            assert first.calls == 2


@pytest.mark.parametrize("calls", [600, pytest.param(20_000, marks=pytest.mark.slow)], ids=["short", "long"])
async def test_no_call_fails_while_all_are_switched_from_version_to_version(
    mesh: Mesh, running: Envoy, calls: int
) -> None:
    service = f"switched-{calls}"
    async with versions(mesh, running, service, 2) as (caller, first, second):
        await mesh.switch(service, "2", "1")
        await caller.until_answering({"1"})
        first.calls = second.calls = 0
        answered: list[str] = []
        wanted = asyncio.Event()

        async def call() -> None:
            while not wanted.is_set():
                answered.append(await caller.who())

        async def reached(name: str) -> bool:
            return len(answered) > before and answered[-1] == name

        callers = [asyncio.create_task(call()) for _ in range(AT_ONCE)]
        for n in range(SWITCHES):
            old, new = ("1", "2") if n % 2 == 0 else ("2", "1")
            before = len(answered) + calls // SWITCHES
            await mesh.switch(service, old, new)
            await until(lambda name=new: reached(name))
        wanted.set()
        await asyncio.gather(*callers)
        assert set(answered) == {"1", "2"}
        assert first.calls + second.calls == len(answered) >= calls
        policy = await mesh.switch(service, "1", "2")
        assert await mesh.switch(service, "1", "2") == policy
        assert await mesh.announced(service) == ["TrafficPolicyChanged"] * (1 + SWITCHES)


async def test_what_an_envoy_counted_of_two_versions_is_read(mesh: Mesh, running: Envoy) -> None:
    async with versions(mesh, running, "counted", 2) as (caller, first, second):
        rules = {"header_rules": [{"header": "x-to", "value": "2", "version": "2"}]}
        await settle(mesh, caller, "counted", **ALL, **rules)
        places = Envoys([running.admin, "127.0.0.1:1"])

        async def read() -> dict[str, tuple[int, ...]]:
            [reading] = await places.read("counted", ("1", "2"), 30_000)
            assert reading.source == running.admin
            return {version: counts.numbers() for version, counts in reading.counts.items()}

        async def all_told() -> bool:
            calls, _, timed, _ = (await read())["1"]
            return calls == timed

        await until(all_told)
        before = await read()
        assert before["2"] == (0, 0, 0, 0)
        second.act = unavailable
        first.calls = second.calls = 0
        assert {await caller.who(("x-to", "2")) for _ in range(3)} == {"UNAVAILABLE"}
        assert {await caller.who() for _ in range(4)} == {"1"}

        async def counted() -> bool:
            now = await read()
            one = tuple(a - b for a, b in zip(now["1"], before["1"], strict=True))
            return one == (4, 0, 4, 0) and now["2"] == (3, 3, 3, 0)

        await until(counted)
        assert (first.calls, second.calls) == (4, 3)


async def test_a_version_that_fails_is_rolled_back_by_what_an_envoy_counted(
    mesh: Mesh, running: Envoy
) -> None:
    async with versions(mesh, running, "canary", 2) as (caller, _, second):
        rollout = await mesh.start_rollout(
            service="canary",
            stable_version="1",
            canary_version="2",
            steps=[{"share": 5_000, "min_calls": 10_000}],
        )
        steward = Steward(mesh.lab.db("registry"), FakeClock(), Envoys([running.admin]))
        second.act = failing

        async def rolled_back() -> bool:
            await asyncio.gather(*(caller.who() for _ in range(AT_ONCE)))
            await steward.round(1)
            return "RolloutRolledBack" in await mesh.announced(rollout.rollout_id)

        await until(rolled_back)
        await caller.until_answering({"1"})
        assert second.calls < 500


async def failing(context: Any) -> None:
    await context.abort(grpc.StatusCode.INTERNAL)


async def test_a_switch_to_nobody_or_from_elsewhere_is_refused(mesh: Mesh) -> None:
    await mesh.register("unswitched", version="1")
    precondition = grpc.StatusCode.FAILED_PRECONDITION
    assert await refused(mesh.switch("unswitched", "1", "2")) == (precondition, "VERSION_NOT_SERVED")
    await mesh.register("unswitched", version="2")
    shares = [{"version": "1", "weight": 1}, {"version": "2", "weight": 1}]
    await mesh.set_policy("unswitched", shares=shares)
    assert await refused(mesh.switch("unswitched", "1", "2")) == (precondition, "OTHER_SHARES")


async def test_a_fault_is_begun_once_listed_and_bounded(mesh: Mesh) -> None:
    settings = {"service": "faulty", "delay": Duration(seconds=1), "note": "slow disks"}
    made = await mesh.begin_fault(**settings)
    assert await mesh.begin_fault(made.fault_id, **settings) == made
    other = mesh.begin_fault(made.fault_id, service="faulty", delay=Duration(seconds=2))
    assert await refused(other) == (grpc.StatusCode.ALREADY_EXISTS, "FAULT_ID_REUSED")
    for _ in range(3):
        await mesh.begin_fault(**settings)
    assert (await refused(mesh.begin_fault(**settings)))[1] == "TOO_MANY_FAULTS"
    request = fault_pb2.ListFaultsRequest(filter='service = "faulty"', page_size=3)
    page = await mesh.faults.ListFaults(request, metadata=mesh.lab.bearer())
    assert page.faults[0] == made
    request.page_token = page.next_page_token
    rest = await mesh.faults.ListFaults(request, metadata=mesh.lab.bearer())
    assert len({each.fault_id for each in (*page.faults, *rest.faults)}) == 4
    reader = mesh.lab.bearer(scope="registry.faults.read")
    get = fault_pb2.GetFaultRequest(fault_id=made.fault_id)
    assert (await mesh.faults.GetFault(get, metadata=reader)).fault == made
    end = fault_pb2.EndFaultRequest(fault_id=made.fault_id)
    assert (await refused(mesh.faults.EndFault(end, metadata=reader)))[0] == grpc.StatusCode.PERMISSION_DENIED
