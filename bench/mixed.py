"""A mixed load: how much of it the mesh bears, then a minute at 70 % of that.

Requests are sent on a schedule, not when the last answer came, so a slow answer delays none of the others;
h2load opens a stream, or takes a connection that is free, for each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import grpc

from bench import h2load, machine, mesh
from bench.h2load import Answers, Shot, frame
from bench.machine import ALL, Meter
from bench.mesh import HOST, Mesh
from bench.people import Person, administrator, people
from bench.read import GET_USER, GRPC
from bench.report import Report
from bench.sign_in import sign_in
from bench.stream import NAMES
from weft.identity.v1 import user_pb2 as pb, user_pb2_grpc

READERS, WRITERS = 20, 4
PAGE = 20
SHARE = 0.7  # Of the capacity, at which the load is held.
AIM_MS, AIM_ERRORS = 200.0, 0.001  # p95, and the share of errors.
KEPT_UP = 0.97  # Of the rate that was asked for; less is a queue that grows.
RATE_MIN, DOUBLINGS_MAX, HALVINGS = 50.0, 7, 4
HOLD = 12  # Times the seconds of a run: a minute by default.
STREAMS = 64  # What a schedule of gRPC may have open at once.
PATIENCE_S = 0.25  # A REST schedule has the connections it needs while answers take no longer.
LIST_USERS = "/weft.identity.v1.UserService/ListUsers"


@dataclass(frozen=True)
class Kind:
    """One kind of request and its share of the load."""

    name: str
    share: float
    make: Callable[[float], Shot]  # With its rate.
    size: int = 0  # Bytes of a right answer where the status does not tell; 0: it does.


@dataclass(frozen=True)
class Trial:
    """The whole mix at one rate."""

    rate: float
    by_kind: Mapping[str, Answers]
    whole: Answers
    bad: int
    meter: Meter

    @property
    def errors(self) -> float:
        return self.bad / max(1, self.whole.count)

    @property
    def borne(self) -> bool:
        kept_up = self.whole.rps >= KEPT_UP * self.rate
        return kept_up and self.whole.ms(0.95) < AIM_MS and self.errors < AIM_ERRORS


def run(seconds: float, repeats: int) -> Report:
    h2load.require()
    found = mesh.up()
    machine.pin(found.pids.values(), ALL)
    mix = kinds(found, people(found, READERS + WRITERS))
    report = Report("Mixed load (`bench mixed`)")
    report.say("Everything unpinned, h2load beside the mesh on the same cores.")
    trials = search(found, mix, seconds)
    capacity = max((trial.rate for trial in trials if trial.borne), default=RATE_MIN)
    report.say(f"Capacity: the highest rate with p95 < {AIM_MS:.0f} ms, errors < {AIM_ERRORS:.1%}, kept up.")
    report.table(["asked for /s", "answered /s", "p95 ms", "errors", "borne"], map(_step, trials))
    for _ in range(min(repeats, 2)):
        _hold(report, _trial(found, mix, capacity * SHARE, seconds * HOLD), capacity)
    return report


def kinds(found: Mesh, persons: Sequence[Person]) -> list[Kind]:
    readers, writers = persons[:READERS], persons[READERS:]
    one, two, three, *rest = readers
    admin = administrator(found)
    listing = pb.ListUsersRequest(page_size=PAGE, order_by="create_time")  # The oldest: nobody changes them.
    sizes = _sizes(found, one, admin, listing)
    request = frame(pb.GetUserRequest(user_id=one.user_id))

    def by_grpc(path: str, person: Person, body: bytes) -> Callable[[float], Shot]:
        headers = {**GRPC, **person.bearer}
        return lambda rate: Shot(found.plain + path, headers, body, in_flight=STREAMS, rate=rate)

    def by_rest(path: str, person: Person) -> Callable[[float], Shot]:
        url = f"{found.plain}/v1/users/{person.user_id}{path}"
        return lambda rate: Shot(url, person.bearer, h1=True, in_flight=_connections(rate), rate=rate)

    writes = [
        Kind("change, REST", 0.12 / WRITERS / len(NAMES), _write(found, who, name))
        for who in writers
        for name in NAMES
    ]
    signing = lambda rate: sign_in(found, rest[0], rate)  # noqa: E731 - as the others are
    return [
        Kind("read, gRPC", 0.4, by_grpc(GET_USER, one, request), sizes[0]),
        Kind("read, REST", 0.275, by_rest("", two)),
        Kind("list of 20, gRPC", 0.1, by_grpc(LIST_USERS, admin, frame(listing)), sizes[1]),
        Kind("list, REST", 0.1, by_rest(f"/activity?page_size={PAGE}", three)),
        *writes,
        Kind("sign-in, REST", 0.005, signing),
    ]


def _write(found: Mesh, person: Person, name: str) -> Callable[[float], Shot]:
    body = json.dumps({"profile": {"displayName": name}}).encode()
    headers = {"content-type": "application/json", **person.bearer}
    url = f"{found.plain}/v1/users/{person.user_id}"
    return lambda rate: Shot(
        url, headers, body, h1=True, verb="PATCH", in_flight=_connections(rate), rate=rate
    )


def _connections(rate: float) -> int:
    return max(1, math.ceil(rate * PATIENCE_S))


def _sizes(found: Mesh, one: Person, admin: Person, listing: pb.ListUsersRequest) -> tuple[int, int]:
    """Framed bytes of the two gRPC answers."""
    with grpc.insecure_channel(f"{HOST}:{found.doors['identity']}") as channel:
        stub = user_pb2_grpc.UserServiceStub(channel)
        read = stub.GetUser(pb.GetUserRequest(user_id=one.user_id), metadata=tuple(one.bearer.items()))
        listed = stub.ListUsers(listing, metadata=tuple(admin.bearer.items()))
    if len(listed.users) != PAGE:
        raise h2load.LoadFailed(f"there are {len(listed.users)} accounts to list, not {PAGE}")
    return len(frame(read)), len(frame(listed))


def search(found: Mesh, mix: Sequence[Kind], seconds: float) -> list[Trial]:
    """Doubles the rate until it is too much, then halves the gap."""
    trials = []
    low, high, rate = 0.0, 0.0, RATE_MIN
    for _ in range(DOUBLINGS_MAX):
        trials.append(_trial(found, mix, rate, seconds))
        if not trials[-1].borne:
            high = rate
            break
        low, rate = rate, rate * 2
    for _ in range(HALVINGS if high and low else 0):
        middle = (low + high) / 2
        trials.append(_trial(found, mix, middle, seconds))
        low, high = (middle, high) if trials[-1].borne else (low, middle)
    return trials


def _trial(found: Mesh, mix: Sequence[Kind], rate: float, seconds: float) -> Trial:
    with Meter(found.pids) as meter:
        answers = h2load.fire([kind.make(rate * kind.share) for kind in mix], seconds, ALL)
    names = dict.fromkeys(kind.name for kind in mix)
    by_kind = {
        name: h2load.together([one for one, kind in zip(answers, mix, strict=True) if kind.name == name])
        for name in names
    }
    short = [
        max(0, one.count - one.body_bytes // kind.size)
        for one, kind in zip(answers, mix, strict=True)
        if kind.size
    ]
    whole = h2load.together(answers)
    return Trial(rate, by_kind, whole, whole.bad + sum(short), meter)


def _step(trial: Trial) -> list[object]:
    verdict = "yes" if trial.borne else "no"
    return [trial.rate, trial.whole.rps, trial.whole.ms(0.95), f"{trial.errors:.3%}", verdict]


def _hold(report: Report, trial: Trial, capacity: float) -> None:
    whole = trial.whole
    report.say(
        f"### {whole.seconds:.0f} s at {SHARE:.0%} of {capacity:,.0f}/s: asked for {trial.rate:,.0f}/s, "
        f"answered {whole.rps:,.0f}/s, errors {trial.bad} of {whole.count:,} ({trial.errors:.3%})"
    )
    rows = [
        [name, one.rps, one.ms(0.5), one.ms(0.95), one.ms(0.99), one.bad]
        for name, one in [*trial.by_kind.items(), ("all", whole)]
    ]
    report.table(["kind", "a second", "p50 ms", "p95 ms", "p99 ms", "not 200"], rows)
    cores = {name: used / trial.meter.wall for name, used in trial.meter.seconds.items()}
    used = ", ".join(
        f"{name} {cores[name]:.2f}" for name in ("edge", "identity", "postgres", "audit", "nats")
    )
    report.say(f"Cores used: {used}, h2load {trial.meter.load / trial.meter.wall:.2f}.")
    met = whole.ms(0.95) < AIM_MS and trial.errors < AIM_ERRORS
    report.say(f"Aim (p95 < {AIM_MS:.0f} ms, errors < {AIM_ERRORS:.1%}): {'met' if met else 'NOT met'}.")
    report.disturbance([trial.meter.strangers])
