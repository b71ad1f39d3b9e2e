"""What a process says of itself at the registry, and when it says it again."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from services.chassis import telemetry
from services.chassis.config import BadSetting, Settings, load
from services.chassis.registration import METRICS_PORT, About, described, outward, pause_s
from services.chassis.registration_settings import RegistrationSettings

leases = st.floats(1, 300)
chances = st.floats(0, 1, exclude_max=True)


@given(leases, chances)
def test_a_lease_is_renewed_in_time_for_two_renewals_to_be_lost(lease_s: float, chance: float) -> None:
    assert lease_s * 0.8 / 3 - 1e-9 <= pause_s(lease_s, 0, chance) <= lease_s / 3


@given(leases, st.integers(1, 10_000), chances)
def test_a_registry_that_is_back_is_met_within_a_third_of_the_lease(
    lease_s: float, failures: int, chance: float
) -> None:
    assert 0.05 <= pause_s(lease_s, failures, chance) <= lease_s / 3


def test_tries_come_later_and_later() -> None:
    pauses = [pause_s(15, failures, 0) for failures in range(1, 10)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 2.5


async def test_an_address_of_its_own_is_told_as_it_is() -> None:
    assert await outward("10.1.2.3:50051", "127.0.0.1:8081") == "10.1.2.3"
    assert await outward("[::1]:50051", "127.0.0.1:8081") == "::1"


@pytest.mark.parametrize("any_address", ["0.0.0.0:50051", "[::]:50051", ":50051"])
async def test_of_any_address_the_one_that_leads_to_the_mesh_is_told(any_address: str) -> None:
    assert await outward(any_address, "127.0.0.1:8081") == "127.0.0.1"


async def test_a_name_is_told_as_an_address() -> None:
    assert await outward("localhost:50051", "127.0.0.1:8081") in ("127.0.0.1", "::1")


def test_an_instance_says_who_it_is_and_where_it_is_read() -> None:
    environ = {"WEFT_VERSION": "2026.11", "WEFT_ZONE": "north", "WEFT_LABELS": "tier=gold,a=b=c"}
    own = load(RegistrationSettings, {**environ, "WEFT_OWNER": "books", "WEFT_REGISTER_LEASE_S": "2.5"})
    said = described("cart", About(settings=own, metrics_port=9464), Settings(development=True), ("::1", 7))
    assert (said.service, said.address, said.port) == ("cart", "::1", 7)
    assert (said.version, said.zone, said.owner) == ("2026.11", "north", "books")
    assert said.docs_url == "https://127.0.0.1:8443/docs"
    assert said.lease.ToMilliseconds() == 2_500
    wanted = {"tier": "gold", "a": "b=c", "contract": "weft.cart.v1", METRICS_PORT: "9464"}
    assert wanted.items() <= dict(said.labels).items()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WEFT_VERSION", "two words"),
        ("WEFT_ZONE", "North"),
        ("WEFT_LABELS", "tier"),
        ("WEFT_LABELS", ",".join(f"a{n}=1" for n in range(25))),
        ("WEFT_OWNER", "x" * 101),
        ("WEFT_REGISTER_LEASE_S", "0.5"),
        ("WEFT_REGISTER_ADDRESS", "localhost"),
        ("WEFT_REGISTER_ADDRESS", "0.0.0.0"),
    ],
)
def test_what_the_registry_would_refuse_stops_the_start(variable: str, value: str) -> None:
    with pytest.raises(BadSetting, match=variable):
        load(RegistrationSettings, {variable: value})


def test_nothing_is_registered_unless_it_is_asked_for() -> None:
    assert not load(RegistrationSettings, {}).register


def test_callers_that_are_told_apart_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_callers", set())
    path = "/weft.bounded.v1.Service/Call"
    for number in range(telemetry.CALLERS_MAX + 10):
        telemetry.asked(f"caller{number}", path, failed=False, seconds=0.01)
    telemetry.asked("", "/grpc.health.v1.Health/Check", failed=False, seconds=0.01)
    seen = {
        sample.labels["caller"]
        for family in telemetry.BY_CALLER.collect()
        for sample in family.samples
        if sample.labels.get("service") == "bounded"
    }
    assert len(seen) == telemetry.CALLERS_MAX + 1
    assert telemetry.OTHERS in seen
