"""Instances through gRPC: there once, for as long as their lease, and watched without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, strategies as st

from services.chassis.clock import FakeClock
from services.chassis.testing import WAIT_S, broken_fields, until
from services.registry.domain.instance import JUMP_S, Beat, trusted
from services.registry.store import state
from services.registry.sweeping import Sweeper
from tests.registry.mesh import Mesh, refused
from weft.registry.v1 import registry_pb2 as pb
from weft.registry.v1.instance_pb2 import (
    HEALTH_DRAINING,
    HEALTH_SERVING,
    InstanceSettings,
)

START = datetime(2026, 11, 21, tzinfo=UTC)
UNKNOWN = (grpc.StatusCode.NOT_FOUND, "UNKNOWN_INSTANCE")


async def test_what_was_registered_is_got_as_it_was_sent(mesh: Mesh) -> None:
    made = await mesh.register(
        "got",
        version="2026.11",
        zone="north",
        weight=7,
        labels={"tier": "gold"},
        protocols=["grpc", "http"],
        owner="books team",
        docs_url="https://docs.example.com/got",
        lease=None,
    )
    request = pb.GetInstanceRequest(instance_id=made.instance_id)
    got = (await mesh.registry.GetInstance(request, metadata=mesh.lab.bearer())).instance
    assert got == made
    assert got.health == HEALTH_SERVING
    assert (got.settings.zone, dict(got.settings.labels)) == ("north", {"tier": "gold"})
    lease = got.expire_time.ToDatetime() - got.register_time.ToDatetime()
    assert timedelta(seconds=14) < lease < timedelta(seconds=16)


async def test_64_callers_with_one_id_make_one_instance_and_announce_one(mesh: Mesh) -> None:
    instance_id = str(uuid4())
    made = await asyncio.gather(*(mesh.register("one", instance_id, port=1) for _ in range(64)))
    assert {each.revision for each in made} == {made[0].revision}
    assert await mesh.announced(instance_id) == ["InstanceRegistered"]
    other = mesh.register("one", instance_id, port=2)
    assert await refused(other) == (grpc.StatusCode.ALREADY_EXISTS, "INSTANCE_ID_REUSED")


async def test_64_instances_that_come_at_once_have_revisions_without_a_gap(mesh: Mesh) -> None:
    made = await asyncio.gather(*(mesh.register("many") for _ in range(64)))
    revisions = sorted(each.revision for each in made)
    assert revisions == list(range(revisions[0], revisions[0] + 64))


async def test_an_instance_whose_lease_ended_is_gone_and_may_come_again(mesh: Mesh) -> None:
    made = await mesh.register("expiring", port=1)
    await mesh.end_lease(made.instance_id)

    async def gone() -> bool:
        return not await mesh.listed('service = "expiring"')

    await until(gone)
    assert await refused(mesh.renew(made.instance_id)) == UNKNOWN
    again = await mesh.register("expiring", made.instance_id, port=1)
    assert again.revision > made.revision
    told = ["InstanceRegistered", "InstanceExpired", "InstanceRegistered"]
    assert await mesh.announced(made.instance_id) == told


async def test_renewing_extends_the_lease_and_is_no_change(mesh: Mesh) -> None:
    made = await mesh.register("renewed", lease=Duration(seconds=60))
    renewed = await mesh.renew(made.instance_id)
    assert renewed.expire_time.ToDatetime() > made.expire_time.ToDatetime()
    assert renewed.revision == made.revision
    assert await mesh.announced(made.instance_id) == ["InstanceRegistered"]


async def test_health_that_changes_is_told_once(mesh: Mesh) -> None:
    made = await mesh.register("sick")
    first = await mesh.renew(made.instance_id, HEALTH_DRAINING)
    second = await mesh.renew(made.instance_id, HEALTH_DRAINING)
    assert first.health == second.health == HEALTH_DRAINING
    assert made.revision < first.revision == second.revision
    assert await mesh.announced(made.instance_id) == ["InstanceRegistered", "InstanceHealthChanged"]


async def test_what_was_deregistered_is_unknown(mesh: Mesh) -> None:
    made = await mesh.register("left")
    await mesh.deregister(made.instance_id)
    assert await refused(mesh.deregister(made.instance_id)) == UNKNOWN
    assert await mesh.announced(made.instance_id) == ["InstanceRegistered", "InstanceDeregistered"]


async def test_instances_are_searched_by_what_they_say_of_themselves(mesh: Mesh) -> None:
    gold = await mesh.register("searched", version="2", labels={"tier": "gold"}, owner="books")
    await mesh.register("searched", version="1", labels={"tier": "tin"}, protocols=["http"])
    found = await mesh.listed('service = "searched" AND labels:"tier=gold" AND protocols:grpc AND owner:boo')
    assert [each.instance_id for each in found] == [gold.instance_id]
    assert len(await mesh.listed('service = "searched"', page_size=1)) == 2
    wrong = mesh.listed("colour = red")
    assert await refused(wrong) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FILTER")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"address": "example.com"}, "settings.address"),
        ({"port": 70_000}, "settings.port"),
        ({"weight": 1001}, "settings.weight"),
        ({"lease": Duration(seconds=301)}, "settings.lease"),
        ({"version": "a@b"}, "settings.version"),
        ({"docs_url": "nowhere"}, "settings.docs_url"),
        ({"labels": {"Tier": "gold"}}, 'settings.labels["Tier"]'),
    ],
    ids=["a name for an address", "port", "weight", "lease", "version", "docs", "label"],
)
async def test_what_clients_would_choke_on_is_refused(mesh: Mesh, settings: Any, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await mesh.register("refused", **settings)
    assert set(broken_fields(error.value)) == {field}


async def test_who_may_read_may_not_register(mesh: Mesh) -> None:
    reader = mesh.lab.bearer(scope="registry.instances.read")
    await mesh.registry.ListInstances(pb.ListInstancesRequest(), metadata=reader)
    settings = InstanceSettings(service="denied", address="::1", port=1)
    request = pb.RegisterInstanceRequest(instance_id=str(uuid4()), settings=settings)
    denied = mesh.registry.RegisterInstance(request, metadata=reader)
    assert await refused(denied) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
    await mesh.registry.RegisterInstance(request, metadata=mesh.lab.as_service("cart"))


@asynccontextmanager
async def watching(mesh: Mesh, service: str, **rest: Any) -> AsyncIterator[AsyncIterator[Any]]:
    request = pb.WatchInstancesRequest(service=service, **rest)
    call = mesh.registry.WatchInstances(request, metadata=mesh.lab.bearer(), timeout=WAIT_S)
    try:
        yield aiter(call)
    finally:
        call.cancel()


async def told(stream: AsyncIterator[Any], count: int) -> list[tuple[str, str]]:
    """The next `count` that are no heartbeats."""
    found = []
    while len(found) < count:
        answer = await anext(stream)
        if (kind := answer.WhichOneof("told")) != "heartbeat":
            found.append((kind, getattr(answer, kind).instance_id))
    return found


async def test_a_watch_tells_what_is_there_then_what_changes_and_goes_on_where_it_broke(mesh: Mesh) -> None:
    first = await mesh.register("watched")
    async with watching(mesh, "watched") as stream:
        assert await told(stream, 1) == [("present", first.instance_id)]
        beat = await anext(stream)
        assert beat.WhichOneof("told") == "heartbeat"
        second = await mesh.register("watched")
        assert await told(stream, 1) == [("present", second.instance_id)]
    await mesh.register("elsewhere")
    await mesh.renew(first.instance_id)
    await mesh.renew(second.instance_id, HEALTH_DRAINING)
    await mesh.deregister(first.instance_id)
    async with watching(mesh, "watched", after_revision=beat.revision) as stream:
        assert await told(stream, 3) == [
            ("present", second.instance_id),
            ("present", second.instance_id),
            ("gone", first.instance_id),
        ]


async def test_a_watch_from_a_revision_that_is_not_known_is_refused(mesh: Mesh) -> None:
    async with watching(mesh, "", after_revision=1 << 40) as stream:
        out = (grpc.StatusCode.OUT_OF_RANGE, "REVISION_OUT_OF_RANGE")
        assert await refused(anext(stream)) == out


async def test_what_is_trimmed_is_known_to_be(mesh: Mesh) -> None:
    made = await mesh.register("trimmed")
    db = mesh.lab.db("registry")
    await db.execute(state.TRIM, 0)
    trimmed = await db.fetchval("select trimmed_to from registry_state")
    assert trimmed >= made.revision
    assert await db.fetchval("select count(*) from instance_change where revision <= $1", trimmed) == 0
    async with watching(mesh, "trimmed", after_revision=trimmed - 1) as stream:
        assert (await refused(anext(stream)))[1] == "REVISION_OUT_OF_RANGE"
    async with watching(mesh, "trimmed", after_revision=trimmed) as stream:
        await mesh.deregister(made.instance_id)
        assert await told(stream, 1) == [("gone", made.instance_id)]


async def test_a_jump_of_the_clock_lets_every_lease_begin_anew(mesh: Mesh) -> None:
    db = mesh.lab.db("registry")
    made = await mesh.register("jumped", lease=Duration(seconds=300))
    sweeper = Sweeper(db, FakeClock())
    now = await sweeper.beat()

    async def seconds_left() -> float:
        left = (
            "select extract(epoch from expires_at - clock_timestamp()) from instance where instance_id = $1"
        )
        return float(await db.fetchval(left, UUID(made.instance_id)))

    shorten = "update instance set expires_at = expires_at - interval '100 s' where instance_id = $1"
    for last in (
        Beat(now.at - timedelta(seconds=100), now.elapsed_s),  # The database's clock was set forward,
        Beat(now.at + timedelta(seconds=100), now.elapsed_s),  # was set back,
        Beat(now.at - timedelta(seconds=100), now.elapsed_s - 100),  # or nobody was swept for a while.
    ):
        await db.execute(shorten, UUID(made.instance_id))
        assert await seconds_left() < 250
        await sweeper.sweep(last)
        assert await seconds_left() > 290
    await db.execute(shorten, UUID(made.instance_id))
    await sweeper.sweep(now)
    assert await seconds_left() < 250


@given(st.floats(0, JUMP_S), st.floats(-JUMP_S, JUMP_S))
def test_a_late_sweep_and_a_slow_clock_are_no_jump(passed_s: float, off_s: float) -> None:
    now = Beat(START + timedelta(seconds=passed_s + off_s * 0.99), passed_s)
    assert trusted(Beat(START, 0), now)


@given(st.floats(0, JUMP_S), st.floats(JUMP_S + 0.1, 1e6), st.sampled_from([-1, 1]))
def test_a_jump_either_way_is_one(passed_s: float, off_s: float, way: int) -> None:
    assert not trusted(Beat(START, 0), Beat(START + timedelta(seconds=passed_s + way * off_s), passed_s))
