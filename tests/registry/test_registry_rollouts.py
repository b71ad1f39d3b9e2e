"""Rollouts through gRPC, with figures that a test makes up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from services.chassis.clock import FakeClock
from services.chassis.config import BadSetting, load
from services.chassis.host import Parts, Tools
from services.chassis.testing import WAIT_S, broken_fields, laboratory, reason
from services.registry.app import build
from services.registry.domain.figures import Counts, Reading
from services.registry.service import moving
from services.registry.settings import PREFIX, RegistrySettings
from services.registry.steward import Steward
from tests.registry.mesh import Mesh, refused
from tests.servers import Shared
from weft.registry.v1 import rollout_pb2 as pb, traffic_policy_pb2

VERSIONS = {"stable_version": "1", "canary_version": "2"}
LONG = Duration(seconds=86_400)
STEPS = [
    {"share": 1_000, "min_calls": 100, "min_time": Duration(seconds=600)},
    {"share": 5_000, "min_calls": 100},
]
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NOBODY: list[Reading] = []


@pytest.fixture(scope="module")
async def mesh(servers: Shared) -> AsyncIterator[Mesh]:
    """Whose own steward does nothing: a test's has the figures."""

    def still(tools: Tools) -> Parts:
        parts = build(tools, {})
        return replace(parts, loops=[loop for loop in parts.loops if not _is_steward(loop)])

    async with laboratory(
        {"registry": still}, postgres_url=servers.postgres(), nats_url=servers.account()
    ) as lab:
        yield Mesh(lab, "")


def _is_steward(loop: Any) -> bool:
    return isinstance(loop.__self__, Steward)


@dataclass
class Counter:
    """Whoever counts calls; `told` is the totals by version, None while it is away."""

    told: dict[str, Counts] | None = field(default_factory=lambda: {"1": Counts(), "2": Counts()})

    async def read(self, service: str, versions: Sequence[str], over_ms: int) -> list[Reading]:
        return NOBODY if self.told is None else [Reading("counter", {v: self.told[v] for v in versions})]

    def add(self, stable: Counts, canary: Counts) -> None:
        assert self.told is not None
        self.told = {"1": self.told["1"].plus(stable), "2": self.told["2"].plus(canary)}


@dataclass
class Rolling:
    """A rollout under test, and who moves it."""

    mesh: Mesh
    rollout_id: str
    service: str
    counter: Counter
    steward: Steward

    async def round(self, passed_s: float = 0) -> pb.Rollout:
        await self.steward.round(passed_s)
        return await self.get()

    async def get(self) -> Any:
        request = pb.GetRolloutRequest(rollout_id=self.rollout_id)
        return (await self.mesh.rollouts.GetRollout(request, metadata=self.mesh.lab.bearer())).rollout

    async def say(self, word: str) -> Any:
        request = getattr(pb, f"{word}RolloutRequest")(rollout_id=self.rollout_id)
        method = getattr(self.mesh.rollouts, f"{word}Rollout")
        return (await method(request, metadata=self.mesh.lab.bearer())).rollout

    async def shares(self) -> dict[str, int]:
        get = traffic_policy_pb2.GetTrafficPolicyRequest(service=self.service)
        policy = (await self.mesh.policies.GetTrafficPolicy(get, metadata=self.mesh.lab.bearer())).policy
        return {each.version: each.weight for each in policy.settings.shares}

    async def told(self) -> list[str]:
        return await self.mesh.announced(self.rollout_id)


async def rolling(mesh: Mesh, service: str, **settings: Any) -> Rolling:
    """Started, and its counter has been met."""
    for version in VERSIONS.values():
        await mesh.register(service, version=version)
    given = {"service": service, **VERSIONS, "steps": STEPS, "step_deadline": LONG, **settings}
    started = await mesh.start_rollout(**given)
    counter = Counter()
    steward = Steward(mesh.lab.db("registry"), FakeClock(), counter)
    await steward.round(0)
    return Rolling(mesh, started.rollout_id, service, counter, steward)


GOOD = Counts(2_000, 2), Counts(200, 0)
BAD = Counts(2_000, 2), Counts(200, 60)


async def test_a_good_version_gets_more_calls_step_by_step_until_it_has_all(mesh: Mesh) -> None:
    it = await rolling(mesh, "rolled")
    assert await it.shares() == {"1": 9_000, "2": 1_000}
    assert (await it.round(600)).reason == pb.ROLLOUT_REASON_TOO_FEW_CALLS
    it.counter.add(*GOOD)
    stepped = await it.round()
    assert (stepped.state, stepped.step, stepped.canary.calls) == (pb.ROLLOUT_STATE_RUNNING, 1, 0)
    assert await it.shares() == {"1": 5_000, "2": 5_000}
    assert (await it.round()).reason == pb.ROLLOUT_REASON_TOO_FEW_CALLS
    it.counter.add(*GOOD)
    done = await it.round()
    assert (done.state, done.step, done.stable.calls) == (pb.ROLLOUT_STATE_PROMOTED, 2, 2_000)
    assert await it.shares() == {"2": 10_000, "1": 0}
    assert await it.told() == ["RolloutStarted", "RolloutStepped", "RolloutPromoted"]
    assert await it.say("Promote") == done
    assert await refused(it.say("Abort")) == (PRECONDITION, "ROLLOUT_ENDED")


async def test_a_worse_version_is_rolled_back_even_while_it_pauses(mesh: Mesh) -> None:
    it = await rolling(mesh, "worse")
    assert (await it.say("Pause")).reason == pb.ROLLOUT_REASON_ASKED
    it.counter.add(*BAD)
    back = await it.round()
    assert (back.state, back.reason) == (pb.ROLLOUT_STATE_ROLLED_BACK, pb.ROLLOUT_REASON_ERRORS)
    assert (back.canary.calls, back.canary.errors) == (200, 60)
    assert await it.shares() == {"1": 10_000, "2": 0}
    assert await it.told() == ["RolloutStarted", "RolloutPaused", "RolloutRolledBack"]


async def test_a_slow_version_is_rolled_back(mesh: Mesh) -> None:
    it = await rolling(mesh, "slower", slow_calls={"over_ms": 250, "margin": 100})
    it.counter.add(Counts(2_000, 0, 2_000, 10), Counts(200, 0, 200, 60))
    assert (await it.round()).reason == pb.ROLLOUT_REASON_LATENCY


async def test_without_figures_a_rollout_waits_and_then_pauses(mesh: Mesh) -> None:
    it = await rolling(mesh, "unseen", step_deadline=Duration(seconds=3_000))
    it.counter.add(*GOOD)
    it.counter.told = None
    waiting = await it.round(2_000)
    assert (waiting.state, waiting.reason) == (pb.ROLLOUT_STATE_RUNNING, pb.ROLLOUT_REASON_NO_FIGURES)
    paused = await it.round(1_000)
    assert (paused.state, paused.reason, paused.step) == (
        pb.ROLLOUT_STATE_PAUSED,
        pb.ROLLOUT_REASON_NO_FIGURES,
        0,
    )
    assert (await it.say("Resume")).state == pb.ROLLOUT_STATE_RUNNING
    assert (await it.round()).state == pb.ROLLOUT_STATE_RUNNING
    assert await it.told() == ["RolloutStarted", "RolloutPaused", "RolloutResumed"]


async def test_who_ends_a_rollout_by_hand_ends_it_once(mesh: Mesh) -> None:
    it = await rolling(mesh, "ended")
    assert await it.say("Resume") == await it.get()
    aborted = await it.say("Abort")
    assert await it.say("Abort") == aborted
    assert await it.shares() == {"1": 10_000, "2": 0}
    again = await rolling(mesh, "ended")
    assert (await again.say("Promote")).state == pb.ROLLOUT_STATE_PROMOTED
    assert await again.shares() == {"2": 10_000, "1": 0}
    request = pb.ListRolloutsRequest(filter='service = "ended"')
    listed = await mesh.rollouts.ListRollouts(request, metadata=mesh.lab.bearer())
    assert [each.rollout_id for each in listed.rollouts] == [again.rollout_id, it.rollout_id]
    assert await it.told() == ["RolloutStarted", "RolloutAborted"]


async def test_nobody_else_deals_the_calls_of_a_service_that_is_rolled_out(mesh: Mesh) -> None:
    it = await rolling(mesh, "owned")
    taken = (PRECONDITION, "ROLLOUT_IN_PROGRESS")
    other = {"service": "owned", **VERSIONS, "steps": STEPS}
    assert await refused(mesh.start_rollout(**other)) == taken
    assert await refused(mesh.switch("owned", "1", "2")) == taken
    assert await refused(mesh.set_policy("owned", shares=[{"version": "1", "weight": 1}])) == taken
    delete = traffic_policy_pb2.DeleteTrafficPolicyRequest(service="owned")
    assert await refused(mesh.policies.DeleteTrafficPolicy(delete, metadata=mesh.lab.bearer())) == taken
    shares = [{"version": "1", "weight": 9_000}, {"version": "2", "weight": 1_000}]
    await mesh.set_policy("owned", shares=shares, active_health_checks=True)
    assert await it.shares() == {"1": 9_000, "2": 1_000}


async def test_a_rollout_is_started_once_and_of_versions_that_serve(mesh: Mesh) -> None:
    it = await rolling(mesh, "started")
    given = {"service": "started", **VERSIONS, "steps": STEPS, "step_deadline": LONG}
    assert (await mesh.start_rollout(it.rollout_id, **given)).rollout_id == it.rollout_id
    other = mesh.start_rollout(it.rollout_id, **{**given, "error_margin": 1})
    assert await refused(other) == (grpc.StatusCode.ALREADY_EXISTS, "ROLLOUT_ID_REUSED")
    await mesh.register("half", version="1")
    half = {**given, "service": "half"}
    assert await refused(mesh.start_rollout(**half)) == (PRECONDITION, "VERSION_NOT_SERVED")
    await mesh.set_policy("half", shares=[{"version": "3", "weight": 1}])
    assert await refused(mesh.start_rollout(**half)) == (PRECONDITION, "OTHER_SHARES")
    falling = [{"share": 9, "min_calls": 1}, {"share": 9, "min_calls": 1}]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await mesh.start_rollout(**{**given, "steps": falling})
    assert set(broken_fields(error.value)) == {"settings.steps[1].share"}


async def test_a_round_that_was_not_committed_is_made_again_without_loss(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await rolling(mesh, "killed")
    it.counter.add(*GOOD)
    with monkeypatch.context() as patched:

        async def die(*_: Any) -> None:
            raise ConnectionError

        patched.setattr(moving.shares, "deal", die)
        with pytest.raises(ConnectionError):
            await it.round(600)
    assert (await it.get()).canary.calls == 0
    stepped = await it.round(600)
    assert (stepped.step, await it.shares()) == (1, {"1": 5_000, "2": 5_000})
    assert await it.told() == ["RolloutStarted", "RolloutStepped"]


async def test_two_who_look_at_once_count_nothing_twice(mesh: Mesh) -> None:
    it = await rolling(mesh, "doubled")
    it.counter.add(Counts(50, 1), Counts(20, 0))
    other = Steward(mesh.lab.db("registry"), FakeClock(), it.counter)
    await asyncio.gather(it.steward.round(1), other.round(1), it.steward.round(1))
    seen = await it.get()
    assert (seen.stable.calls, seen.stable.errors, seen.canary.calls) == (50, 1, 20)
    assert seen.watched.seconds == 3


async def test_of_many_who_start_a_rollout_at_once_one_does(mesh: Mesh) -> None:
    for version in VERSIONS.values():
        await mesh.register("crowded", version=version)
    given = {"service": "crowded", **VERSIONS, "steps": STEPS}
    starts = (mesh.start_rollout(**given) for _ in range(16))
    ended = await asyncio.gather(*starts, return_exceptions=True)
    lost = [reason(each) for each in ended if isinstance(each, grpc.aio.AioRpcError)]
    assert len(lost) == 15
    assert set(lost) <= {"ROLLOUT_IN_PROGRESS", "DATABASE_BUSY"}  # Whoever waits too long is told so.


@pytest.mark.parametrize(
    "stats", ["nowhere", "a:1,b:70000", ",".join(["a:1"] * 17)], ids=["no port", "a large port", "too many"]
)
def test_addresses_of_statistics_that_are_none_are_refused_at_the_start(stats: str) -> None:
    with pytest.raises(BadSetting):
        load(RegistrySettings, {"WEFT_REGISTRY_STATS": stats}, PREFIX)


async def test_a_watch_tells_of_each_move_and_ends_with_the_rollout(mesh: Mesh) -> None:
    it = await rolling(mesh, "seen")
    request = pb.WatchRolloutRequest(rollout_id=it.rollout_id)
    call = mesh.rollouts.WatchRollout(request, metadata=mesh.lab.bearer(), timeout=WAIT_S)
    stream = aiter(call)
    assert (await anext(stream)).rollout.state == pb.ROLLOUT_STATE_RUNNING
    await it.say("Pause")
    assert (await anext(stream)).rollout.state == pb.ROLLOUT_STATE_PAUSED
    await it.say("Abort")
    assert [answer.rollout.state async for answer in stream] == [pb.ROLLOUT_STATE_ABORTED]
    unknown = pb.WatchRolloutRequest(rollout_id=str(UUID(int=1)))
    gone = mesh.rollouts.WatchRollout(unknown, metadata=mesh.lab.bearer(), timeout=WAIT_S)
    assert await refused(anext(aiter(gone))) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_ROLLOUT")
