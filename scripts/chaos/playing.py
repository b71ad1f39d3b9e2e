"""One run of a scenario: the load and the faults side by side, then the proof. It leaves nothing undone."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio

from launcher import undoing
from scripts.chaos.faults import KINDS, Fault
from scripts.chaos.guarding import guarded
from scripts.chaos.hostile import Hostile
from scripts.chaos.load import Load, capacity
from scripts.chaos.measures import Call
from scripts.chaos.mesh import Mesh, Refused
from scripts.chaos.proof import Proof, read_back
from scripts.chaos.scenario import Scenario, Step
from scripts.chaos.users import Person, Users, arriving
from weft.audit.v1.audit_pb2_grpc import AuditServiceStub

LEAD_S = 0.2  # Between the last preparation and the first call.
AGAIN_S = 0.1  # Between two looks for newcomers that a fault is meant for too.
BURST_RATE_MAX = 5_000.0  # Calls a second; one client on this machine sends no more.
WELL_S_MAX = 60.0  # The supervisor's longest pause before a restart, and then some starts.


@dataclass(frozen=True)
class Strike:
    """A fault as it was done."""

    at: float
    until: float
    said: str
    detail: str


@dataclass
class Played:
    """All that a run leaves to be judged."""

    scenario: Scenario
    began: datetime
    calls: list[Call] = field(default_factory=list)
    strikes: list[Strike] = field(default_factory=list)
    capacity: float | None = None
    proof: Proof = field(default_factory=lambda: Proof(0))
    well_after_s: float | None = None  # Since the load's end, until every part was well; None: never.


async def play(mesh: Mesh, scenario: Scenario, tell: Any) -> Played:
    """Addresses and sign-in come from the environment that `weft chaos` sets. Raises Refused, NotReady."""
    mesh.check(scenario)
    place = os.environ["WEFT_EDGE_URL"], Path(os.environ["WEFT_CA_FILE"])
    account = os.environ["WEFT_ADMIN_EMAIL"], os.environ["WEFT_ADMIN_PASSWORD"]
    with guarded(mesh):
        async with arriving(*place, *account) as users:
            played = Played(scenario, datetime.now(UTC))
            await _run(mesh, users, played, tell)
            undoing.undo(mesh.home)
            tell("the load has ended; reading back what was acknowledged")
            audit = _trail(mesh, users.admin)
            played.well_after_s = await _well(mesh)
            played.proof = await read_back(users, audit, played.began)
    return played


async def _run(mesh: Mesh, users: Users, played: Played, tell: Any) -> None:
    """The load, and each step in its time; one that fails ends all. Raises Refused."""
    scenario = played.scenario
    bursts = [step for step in scenario.steps if step.fault == "burst"]
    if bursts:
        played.capacity = await capacity(users.call, scenario.mix)
        if not played.capacity:
            raise Refused("nobody was answered in time before the burst: there is no capacity to multiply")
        tell(f"capacity of this mesh for these users: {played.capacity:,.0f} calls a second")
    most = [min(BURST_RATE_MAX, step.numbers["times"] * (played.capacity or 0)) for step in bursts]
    rates = [(step.at, step.ends, rate) for step, rate in zip(bursts, most, strict=True)]
    load = Load(users.call, scenario.mix, scenario.rate, rates)
    played.calls = load.calls
    began = time.monotonic() + LEAD_S
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(scenario.seconds, began))
            for step in scenario.steps:
                group.create_task(_strike(_fault(mesh, step), played, began, tell))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _fault(mesh: Mesh, step: Step) -> Fault:
    kind: type[Fault] = Hostile if step.fault == "hostile" else KINDS[step.fault]
    return kind(mesh, step)


async def _strike(fault: Fault, played: Played, began: float, tell: Any) -> None:
    """One step, undone when its time is over or the run is ended. What fails half-way is in the notes."""
    step = fault.step
    await asyncio.sleep(max(0.0, began + step.at - time.monotonic()))
    at = time.monotonic() - began
    try:
        detail = fault.begin()
        tell(f"{at:6.1f} s  {step.said()}{f': {detail}' if detail else ''}")
        await _last(fault, began + step.ends)
    except PermissionError as error:
        raise Refused(f"{step.said()}: this account may not do that: {error}") from error
    until = time.monotonic() - began
    played.strikes.append(Strike(at, until, step.said(), detail))
    if step.lasts:
        tell(f"{until:6.1f} s  {step.fault} ends")


async def _last(fault: Fault, ends: float) -> None:
    """Until the fault's time is over; then it is undone."""
    try:
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(left, AGAIN_S))
            fault.again()
    finally:
        fault.end()


def _trail(mesh: Mesh, admin: Person) -> Any | None:
    """The audit trail's stub, where this mesh has one."""
    served = [name for each in mesh.seen().components for name in each.services]
    channel: grpc.aio.Channel = admin.channel
    return AuditServiceStub(channel) if "audit" in served else None


async def _well(mesh: Mesh) -> float | None:
    """Seconds until every part is well."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < WELL_S_MAX:
        if not await asyncio.to_thread(mesh.ill):
            return passed
        await asyncio.sleep(AGAIN_S)
    return None
