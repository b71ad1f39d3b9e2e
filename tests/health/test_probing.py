"""What each kind of look finds, and that none takes longer than it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from services.chassis.clock import Clock
from services.chassis.config import BadSetting, load
from services.chassis.testing import Lab
from services.health.domain.alert import Heard, news
from services.health.domain.component import Component, Condition, Verdict
from services.health.domain.impact import Calls
from services.health.domain.plan import Mode
from services.health.looking import Finding, Looking, Pace
from services.health.probing.edge import Edge, read
from services.health.probing.nats import Nats
from services.health.probing.outside import probes, room
from services.health.probing.postgres import found
from services.health.settings import PREFIX, HealthSettings
from tests.chassis.waiting import until
from tests.health.gateway import Ward
from tests.servers import free_port

METRICS = """
envoy_cluster_membership_healthy{envoy_cluster_name="cart"} 1
envoy_cluster_membership_total{envoy_cluster_name="cart"} 2
envoy_cluster_membership_healthy{envoy_cluster_name="order"} 0
envoy_cluster_membership_total{envoy_cluster_name="order"} 1
envoy_cluster_membership_healthy{envoy_cluster_name="payment"} 0
envoy_cluster_membership_total{envoy_cluster_name="payment"} 0
envoy_cluster_membership_healthy{envoy_cluster_name="admin"} 1
envoy_cluster_membership_total{envoy_cluster_name="admin"} 1
envoy_cluster_upstream_rq_completed{envoy_cluster_name="cart"} 100
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="cart"} 4
envoy_cluster_upstream_rq_completed{envoy_cluster_name="order"} 8
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="order"} 8
envoy_cluster_grpc_5{grpc_service="weft.cart.v1.CartService",envoy_cluster_name="cart"} 20
envoy_cluster_grpc_14{grpc_service="weft.cart.v1.CartService",envoy_cluster_name="cart"} 9
envoy_cluster_grpc_13{grpc_service="weft.cart.v1.CartService",envoy_cluster_name="cart"} 1
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUIET = timedelta(minutes=10)


def test_the_edges_page_has_members_and_calls() -> None:
    members, calls = read(METRICS, {"cart", "order", "payment"})
    assert members == {"cart": (1, 2), "order": (0, 1)}
    assert calls["cart"] == Calls(calls=100, failed=10), "a refusal is no fault of ours"
    assert calls["order"] == Calls(calls=8, failed=8)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(says: bytes) -> AsyncIterator[int]:
    """Says one thing to whoever comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def page(text: str, status: str = "200 OK") -> bytes:
    body = text.encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def look(url: str) -> list[tuple[Verdict, str]]:
    [probe] = probes([f"x={url}"])
    made = Looking([probe], Pace(interval_s=1, timeout_s=30, budget_s=30), Clock())
    return [(each.verdict, each.why) for each in await made._look(probe)]


@pytest.mark.parametrize(
    ("scheme", "says", "verdict"),
    [
        ("http", page("well"), Verdict.GOOD),
        ("http", page("ill", "503 Service Unavailable"), Verdict.BAD),
        ("smtp", b"220 mail.example ESMTP\r\n", Verdict.GOOD),
        ("smtp", b"554 no\r\n", Verdict.BAD),
        ("smtp", b"", Verdict.BAD),
        ("tcp", b"", Verdict.GOOD),
        ("grpc", b"", Verdict.BAD),
    ],
    ids=["page", "ill page", "mail", "no mail", "silent mail", "tcp", "no grpc"],
)
async def test_a_probe_asks_by_its_protocol(scheme: str, says: bytes, verdict: Verdict) -> None:
    async with serving(says) as port:
        [(seen, _)] = await look(f"{scheme}://127.0.0.1:{port}")
    assert seen is verdict


async def test_nobody_there_is_found_by_the_error_alone() -> None:
    [(verdict, why)] = await look(f"tcp://user:secret@127.0.0.1:{free_port()}")
    assert (verdict, why) == (Verdict.BAD, "ConnectionRefusedError")


async def test_a_server_is_asked_by_grpc_health(ward: Ward) -> None:
    address = f"grpc://127.0.0.1:{ward.lab.hosted.port}"
    assert await look(f"{address}/health") == [(Verdict.GOOD, "")]
    [(verdict, _)] = await look(f"{address}/nobody")
    assert verdict is Verdict.BAD


async def test_the_edge_is_asked_and_its_members_with_it() -> None:
    async with serving(page(METRICS)) as port:
        findings = await Edge(f"http://127.0.0.1:{port}/", ["cart", "order"]).look()
    seen = {each.component: each.verdict for each in findings}
    assert seen == {"edge": Verdict.GOOD, "service.cart": Verdict.SLOW, "service.order": Verdict.BAD}


async def test_nats_tells_of_jetstream(ward: Ward) -> None:
    assert await Nats(ward.lab.bus).look() == [Finding("nats")]


def test_a_replica_behind_and_a_server_in_recovery_are_slow() -> None:
    seen = [found(False, None), found(False, 1.0), found(False, 60.0), found(True, None)]
    assert [each.verdict for each in seen] == [Verdict.GOOD, Verdict.GOOD, Verdict.SLOW, Verdict.SLOW]


def test_a_disk_is_low_before_it_is_full() -> None:
    assert [room(free)[0] for free in (0.5, 0.05, 0.01)] == [Verdict.GOOD, Verdict.SLOW, Verdict.BAD]


async def test_there_is_a_disk() -> None:
    [(_, why)] = await look("disk:///")
    assert why == "" or why.endswith("are free")


class Hanging:
    component = "hanging"

    async def look(self) -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []


async def test_a_look_that_hangs_has_failed_in_its_time_and_one_that_is_down_waits() -> None:
    looking = Looking([Hanging()], Pace(interval_s=0.01, timeout_s=0.01, budget_s=0.01), Clock())
    async with looking.spread():
        [seen] = await until(lambda: looking.take(1.0, {}))
        assert (seen.verdict, seen.why) == (Verdict.BAD, "TimeoutError")
        known = {"hanging": Component(condition=Condition.DOWN, next_at=10.0)}
        await until(lambda: not looking._running or looking.take(2.0, known))
        assert looking.take(9.0, known) == []
        assert not looking._running
        looking.take(10.0, known)
        assert looking._running
    assert not looking._running


@pytest.mark.parametrize(
    "variables",
    [
        {"PROBES": "x=ftp://a"},
        {"PROBES": "X=tcp://a:1"},
        {"FALL": "6"},
        {"INTERVAL_S": "0"},
        {"BACKOFF_S_MAX": "0.5"},
        {"CAPABILITIES": "/nowhere.toml"},
    ],
    ids=["scheme", "name", "more than there are", "no time", "pauses", "no file"],
)
def test_settings_that_cannot_be_are_refused(variables: dict[str, str]) -> None:
    with pytest.raises(BadSetting):
        settings = load(
            HealthSettings, {f"{PREFIX}{name}": value for name, value in variables.items()}, PREFIX
        )
        settings.plan()
        probes(settings.probes)


def test_the_capabilities_that_ship_can_be_read() -> None:
    plan = load(HealthSettings, {}, PREFIX).plan()
    assert plan.capabilities["checkout"].money
    assert "cart" in plan.capabilities["checkout"].services()


def told(modes: dict[str, Mode], heard: dict[str, Heard], minutes: float = 0) -> dict[str, Mode]:
    return news(modes, heard, NOW + timedelta(minutes=minutes), QUIET)


def test_people_are_told_once_at_once_of_worse_and_later_of_better() -> None:
    assert told({"shop": Mode.NORMAL}, {}) == {}
    assert told({"shop": Mode.DEGRADED}, {}) == {"shop": Mode.DEGRADED}
    heard = {"shop": Heard(Mode.DEGRADED, NOW)}
    assert told({"shop": Mode.DEGRADED}, heard, 60) == {}
    assert told({"shop": Mode.EMERGENCY}, heard, 1) == {"shop": Mode.EMERGENCY}
    assert told({"shop": Mode.NORMAL}, heard, 1) == {}
    assert told({"shop": Mode.NORMAL}, heard, 11) == {"shop": Mode.NORMAL}
    flapping = {"shop": Heard(Mode.NORMAL, NOW)}
    assert told({"shop": Mode.EMERGENCY}, flapping, 1) == {}
    assert told({"shop": Mode.EMERGENCY}, flapping, 11) == {"shop": Mode.EMERGENCY}


async def test_a_lab_is_ready_while_its_own_stores_are_not_asked(ward: Ward) -> None:
    lab: Lab = ward.lab
    await lab.hosted.readiness.round()
    assert lab.hosted.readiness.failing == {}
