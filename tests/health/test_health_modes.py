"""A gateway goes and comes back: the mode, who is told of it, what is written of it, and pins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.testing import broken_fields, reason, until
from services.health.domain.state import State
from services.health.keeping import Superseded, keep
from tests.health.gateway import DEGRADED, EMERGENCY, NORMAL, Ward
from weft.health.v1 import health_pb2 as pb, state_pb2
from weft.money.v1.money_pb2 import Money
from weft.payment.v1.events_pb2 import CaptureFailed


def later(**time: float) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(datetime.now(UTC) + timedelta(**time))
    return made


async def pin(ward: Ward, mode: Any, until: Timestamp, capability: str = "shop") -> Any:
    request = pb.PinModeRequest(capability=capability, mode=mode, expire_time=until, reason="a drill")
    return (await ward.health.PinMode(request, metadata=ward.lab.bearer())).pin


async def unpin(ward: Ward, capability: str = "shop") -> None:
    await ward.health.UnpinMode(pb.UnpinModeRequest(capability=capability), metadata=ward.lab.bearer())


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), reason(error.value)


async def test_a_gateway_that_goes_makes_an_incident_and_one_that_comes_back_ends_it(ward: Ward) -> None:
    modes = ward.lab.hosted.tools["health"].modes
    await ward.until_mode(NORMAL)
    watch = ward.health.WatchModes(pb.WatchModesRequest(capability="shop"), metadata=ward.lab.bearer())
    assert (await watch.read()).capability.mode == NORMAL
    assert (await watch.read()).HasField("heartbeat")
    ward.close()
    told = (await watch.read()).capability
    assert (told.mode, list(told.causes)) == (EMERGENCY, ["gateway.cards"])

    async def heard() -> bool:
        return modes.mode("shop") == "EMERGENCY" and modes.off("catalog.facets")

    await until(heard)
    assert (modes.stale("catalog.products"), modes.queued("notification.send")) == (True, True)
    list_ = ward.health.ListIncidents(pb.ListIncidentsRequest(), metadata=ward.lab.bearer())
    assert await refused(list_) == (grpc.StatusCode.UNAVAILABLE, "SHED"), "it is of normal priority"
    assert await ward.mode("mail") == NORMAL, "what is critical is answered"
    await _fail_a_capture(ward, told.incident_id)
    await ward.open()
    assert (await watch.read()).capability.mode == NORMAL
    watch.cancel()

    async def over() -> bool:
        return not modes.sheds

    await until(over)
    await _see_it_closed(ward, told.incident_id)
    assert (await ward.announced("shop"))[-2:] == ["ModeChanged", "ModeChanged"]
    assert "ComponentChanged" in await ward.announced("gateway.cards")


async def _fail_a_capture(ward: Ward, incident_id: str) -> None:
    """While the incident is open; one event twice is one capture."""
    db = ward.lab.db("health")
    opened = "select count(*) from incident where incident_id = $1::text::uuid"
    await until(lambda: db.fetchval(opened, incident_id))
    failed = CaptureFailed(intent_id=str(uuid4()), amount=Money(amount_minor=4780, currency="EUR"))
    event_id = await ward.lab.announce(failed)
    await ward.lab.announce(failed, event_id)
    failed.intent_id = str(uuid4())
    await ward.lab.announce(failed)
    added = "select amount_minor = 9560 from failed_captures where incident_id = $1::text::uuid"
    await until(lambda: db.fetchval(added, incident_id))


async def _see_it_closed(ward: Ward, incident_id: str) -> None:
    async def closed() -> Any:
        request = pb.GetIncidentRequest(incident_id=incident_id)
        found = (await ward.health.GetIncident(request, metadata=ward.lab.bearer())).incident
        return found if found.HasField("close_time") else None

    incident = await until(closed)
    assert (incident.worst, list(incident.causes)) == (EMERGENCY, ["gateway.cards"])
    assert list(incident.impact.captures_failed) == [Money(amount_minor=9560, currency="EUR")]
    assert incident.open_time.ToDatetime() < incident.close_time.ToDatetime()
    assert incident_id in [each.incident_id for each in await ward.incidents()]


async def test_a_pin_is_respected_until_it_is_taken_away(ward: Ward) -> None:
    ends = later(hours=1)
    made = await pin(ward, DEGRADED, ends)
    assert await pin(ward, DEGRADED, ends) == made, "what is so already is no event"
    await ward.until_mode(DEGRADED)
    shown = await ward.capability("shop")
    assert (shown.pin_expire_time, list(shown.causes)) == (ends, [])
    await unpin(ward)
    await unpin(ward)
    await ward.until_mode(NORMAL)
    told = [each for each in await ward.announced("shop") if "inned" in each]
    assert told == ["ModePinned", "ModeUnpinned"]


async def test_a_pin_ends_by_itself(ward: Ward) -> None:
    await pin(ward, EMERGENCY, later(seconds=1), "mail")
    await ward.until_mode(EMERGENCY, "mail")
    await ward.until_mode(NORMAL, "mail")

    async def told() -> bool:
        return "ModeUnpinned" in await ward.announced("mail")

    await until(told)


@pytest.mark.parametrize("until", [timedelta(seconds=-1), timedelta(days=8)], ids=["past", "too far"])
async def test_a_pin_that_is_over_or_never_ends_is_refused(ward: Ward, until: timedelta) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await pin(ward, NORMAL, later(seconds=until.total_seconds()))
    assert (error.value.code(), reason(error.value)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "PIN_OUT_OF_RANGE",
    )
    assert set(broken_fields(error.value)) == {"expire_time"}


async def test_what_is_not_there_is_not_found(ward: Ward) -> None:
    unknown = await refused(pin(ward, NORMAL, later(hours=1), "nothing"))
    assert unknown == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CAPABILITY")
    assert await refused(unpin(ward, "nothing")) == unknown
    request = pb.GetIncidentRequest(incident_id=str(uuid4()))
    get = ward.health.GetIncident(request, metadata=ward.lab.bearer())
    assert await refused(get) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_INCIDENT")


async def test_who_may_not_pin_is_refused(ward: Ward) -> None:
    request = pb.PinModeRequest(capability="shop", mode=NORMAL, expire_time=later(hours=1))
    call = ward.health.PinMode(request, metadata=ward.lab.bearer(scope="health.state.read"))
    assert (await refused(call))[0] == grpc.StatusCode.PERMISSION_DENIED


async def test_a_database_that_stands_still_holds_no_decision_up(ward: Ward) -> None:
    db, modes = ward.lab.db("health"), ward.lab.hosted.tools["health"].modes
    before = await db.fetchval("select count(*) from incident")
    async with db.transaction() as tx:
        await tx.connection()
        connection = await tx.connection()
        await connection.exec_driver_sql("select from controller for update")
        ward.close()

        async def heard() -> bool:
            return modes.mode("shop") == "EMERGENCY"

        await until(heard)
        await ward.until_mode(EMERGENCY)
        assert await db.fetchval("select count(*) from incident") == before
    await until(lambda: db.fetchval("select count(*) = $1 from incident", before + 1))
    await ward.open()
    await ward.until_mode(NORMAL)
    await until(lambda: db.fetchval("select count(*) = 0 from incident where closed_at is null"))


async def test_who_was_superseded_writes_nothing(ward: Ward) -> None:
    db = ward.lab.db("health")
    term = await db.fetchval("select term from controller")
    with pytest.raises(Superseded):
        await keep(db, term - 1, State(), [])


async def test_all_that_is_watched_is_shown(ward: Ward) -> None:
    async def all_up() -> bool:
        system = await ward.health.GetSystem(pb.GetSystemRequest(), metadata=ward.lab.bearer())
        shown = {each.component: each.condition for each in system.components}
        return shown == dict.fromkeys(["gateway.cards", "nats", "postgres"], state_pb2.CONDITION_UP)

    await until(all_up)
