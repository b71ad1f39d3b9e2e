"""One read by key, through every door of the mesh, against a usual service and against gRPC's own floor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

import grpc

from bench import h2load, machine, mesh
from bench.h2load import Answers, Shot, frame
from bench.machine import ALL, Cores, Meter
from bench.mesh import HOST, Mesh
from bench.peers.running import Peer, peer
from bench.people import Person, people
from bench.report import Report
from weft.identity.v1 import user_pb2 as pb, user_pb2_grpc

PEOPLE, IN_FLIGHT = 16, 2  # Rows that are read, and calls for each of them at once: 32 in flight.
WARM_S = 1.0
GET_USER = "/weft.identity.v1.UserService/GetUser"
GRPC = {"content-type": "application/grpc", "te": "trailers"}
WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
LAYOUTS: Mapping[str, tuple[Cores, Cores]] = {"pinned": ("0", "1"), "unpinned": (ALL, ALL)}
PEER = "FastAPI, row"  # The leaner peer: ratios are against it.


@dataclass(frozen=True)
class Way:
    """One way to the same account: what is sent, and whose processor time it takes."""

    name: str
    shots: Sequence[Shot]
    hops: Mapping[str, int]
    sizes: Sequence[int] = ()  # Bytes of each shot's right answer; empty: the status says all.


@dataclass(frozen=True)
class Sample:
    """One run of one way."""

    answers: Answers
    us: Mapping[str, float]  # Processor microseconds a request, by hop; `load` is h2load's.
    strangers: float
    bad: int


def run(seconds: float, repeats: int) -> Report:
    report = Report("Read by key (`bench read`)")
    with setting() as ways:
        for layout, (servers, load) in LAYOUTS.items():
            for way in ways:
                machine.pin(way.hops.values(), servers)
            samples = measure(ways, seconds, repeats, load)
            _tell(report, layout, samples)
    return report


@contextmanager
def setting() -> Iterator[list[Way]]:
    """The mesh, its people and the peers."""
    h2load.require()
    found = mesh.up()
    persons = people(found, PEOPLE)
    with ExitStack() as stack:
        rest = stack.enter_context(peer("rest", found.database("identity")))
        echo = stack.enter_context(peer("echo"))
        yield [*mesh_ways(found, persons), *_peer_ways(found, persons, rest, echo)]


def mesh_ways(found: Mesh, persons: Sequence[Person]) -> list[Way]:
    """Each door."""
    all_hops, own = found.only("edge", "identity", "postgres"), found.only("identity", "postgres")
    port = found.doors["identity"]
    sizes = [_size(port, person) for person in persons]
    own_door = grpc_shots(f"http://{HOST}:{port}", persons, GRPC)
    return [
        Way("gRPC", grpc_shots(found.plain, persons, GRPC), all_hops, sizes),
        Way("gRPC, TLS", grpc_shots(found.edge, persons, GRPC), all_hops, sizes),
        Way("grpc-web", grpc_shots(found.plain, persons, GRPC | WEB), all_hops, sizes),
        Way("REST", rest_shots(f"{found.plain}/v1/users", persons, bearer=True), all_hops),
        Way("direct, no edge", own_door, own, sizes),
    ]


def _peer_ways(found: Mesh, persons: Sequence[Person], rest: Peer, echo: Peer) -> list[Way]:
    hops = {"peer": rest.pid, **found.only("postgres")}
    floor = grpc_shots(echo.url, persons, GRPC, "/bench.Echo/Unary")
    return [
        Way(PEER, rest_shots(f"{rest.url}/row", persons), hops),
        Way("FastAPI, whole answer", rest_shots(f"{rest.url}/user", persons), hops),
        Way("grpc.aio echo", floor, {"peer": echo.pid}, [len(shot.body or b"") for shot in floor]),
    ]


def grpc_shots(
    url: str, persons: Sequence[Person], headers: Mapping[str, str], path: str = GET_USER
) -> list[Shot]:
    return [
        Shot(
            url + path,
            {**headers, **person.bearer},
            frame(pb.GetUserRequest(user_id=person.user_id)),
            in_flight=IN_FLIGHT,
        )
        for person in persons
    ]


def rest_shots(url: str, persons: Sequence[Person], *, bearer: bool = False) -> list[Shot]:
    return [
        Shot(f"{url}/{person.user_id}", person.bearer if bearer else {}, h1=True, in_flight=IN_FLIGHT)
        for person in persons
    ]


def _size(port: int, person: Person) -> int:
    """Bytes of the framed answer, once it has been looked at."""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        stub = user_pb2_grpc.UserServiceStub(channel)
        request = pb.GetUserRequest(user_id=person.user_id)
        answer = stub.GetUser(request, metadata=tuple(person.bearer.items()))
    if answer.user.email != person.email:
        raise h2load.LoadFailed("GetUser answers another account")
    return len(frame(answer))


def measure(ways: Sequence[Way], seconds: float, repeats: int, load: Cores) -> dict[str, list[Sample]]:
    """Samples by way; the ways take turns, so that a disturbance meets them alike."""
    samples: dict[str, list[Sample]] = {way.name: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            h2load.fire(way.shots, WARM_S, load)
            samples[way.name].append(_sample(way, seconds, load))
    return samples


def _sample(way: Way, seconds: float, load: Cores) -> Sample:
    with Meter(way.hops) as meter:
        each = h2load.fire(way.shots, seconds, load)
    whole = h2load.together(each)
    us = {name: used / max(1, whole.count) * 1e6 for name, used in meter.seconds.items()}
    us["load"] = meter.load / max(1, whole.count) * 1e6
    return Sample(whole, us, meter.strangers, whole.bad + _short(each, way.sizes))


def _short(each: Sequence[Answers], sizes: Sequence[int]) -> int:
    """Answers whose bodies are missing: refusals of gRPC."""
    missing = [answers.count - answers.body_bytes // size for answers, size in zip(each, sizes, strict=False)]
    return sum(max(0, count) for count in missing)


def _tell(report: Report, layout: str, samples: Mapping[str, Sequence[Sample]]) -> None:
    servers, load = LAYOUTS[layout]
    report.say(f"### {layout.capitalize()}: servers on core {servers}, h2load on core {load}")
    base = _middle(samples[PEER], lambda sample: sample.answers.rps)
    hops = ("edge", "identity", "postgres", "peer", "load")
    rows = []
    for name, runs in samples.items():
        rps = _middle(runs, lambda sample: sample.answers.rps)
        ms = [_middle(runs, lambda sample, at=at: sample.answers.ms(at)) for at in (0.5, 0.95, 0.99)]
        us = [_middle(runs, lambda sample, hop=hop: sample.us.get(hop, 0.0)) for hop in hops]
        shown = [value if value else "" for value in us]
        bad = sum(sample.bad for sample in runs)
        rows.append([name, rps, rps / base, *ms, *shown, sum(us[:4]), bad])
    cost = [f"{hop} us" for hop in ("Envoy", "identity", "PostgreSQL", "peer", "h2load")]
    report.table(
        ["way", "rps", f"ratio to {PEER}", "p50 ms", "p95 ms", "p99 ms", *cost, "servers us", "errors"], rows
    )
    report.disturbance([sample.strangers for runs in samples.values() for sample in runs])


def _middle(runs: Sequence[Sample], of: object) -> float:
    assert callable(of)
    return float(median(of(sample) for sample in runs))
