"""Unary calls: every server at 32 in flight; then ours and the reference by size and by calls in flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.machine import Cores
from bench.peers.running import Peer
from bench.read import LAYOUTS
from bench.report import Report
from bench.wire import servers
from bench.wire.servers import KINDS, OURS, REFERENCE, Kind, Sample

SIZE, CONNECTIONS, STREAMS = 100, 4, 8  # The usual call, 32 of them in flight.
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
FLIGHTS = ((1, 1), (1, 8), (1, 32), (4, 8), (4, 25), (10, 100))  # Connections, streams of each.
PAIR = tuple(kind for kind in KINDS if kind.name in (OURS, REFERENCE))

Runs = Mapping[str, Sequence[Sample]]


def run(report: Report, seconds: float, repeats: int) -> None:
    report.say(f"### Unary, {SIZE} bytes, {CONNECTIONS} connections with {STREAMS} calls each in flight")
    with servers.running(KINDS) as peers:
        for layout, (cores, load) in LAYOUTS.items():
            servers.pinned(peers, cores)
            runs = _turns(KINDS, peers, (SIZE, CONNECTIONS, STREAMS), seconds, repeats, load)
            report.say(f"{layout.capitalize()}: the server on core {cores}, h2load on core {load}.")
            _table(report, runs)
    with servers.running(PAIR) as peers:
        cores, load = LAYOUTS["pinned"]
        servers.pinned(peers, cores)
        _sweep(report, peers, [(size, CONNECTIONS, STREAMS) for size in SIZES], seconds, load)
        _sweep(report, peers, [(SIZE, *flight) for flight in FLIGHTS], seconds, load)


def _turns(
    kinds: Sequence[Kind],
    peers: Mapping[str, Peer],
    shape: tuple[int, int, int],
    seconds: float,
    repeats: int,
    load: Cores,
) -> Runs:
    """The servers take turns, so that a disturbance meets them alike."""
    runs: dict[str, list[Sample]] = {kind.name: [] for kind in kinds}
    for _ in range(repeats):
        for kind in kinds:
            shot = servers.call(kind, peers[kind.name], *shape)
            runs[kind.name].append(servers.sample(peers[kind.name], shot, seconds, load))
    return runs


def _table(report: Report, runs: Runs) -> None:
    base = servers.middle([sample.answers.rps for sample in runs[REFERENCE]])
    rows = []
    for name, samples in runs.items():
        rps = servers.middle([sample.answers.rps for sample in samples])
        ms = [servers.middle([sample.answers.ms(at) for sample in samples]) for at in (0.5, 0.99)]
        rows.append([name, rps, rps / base, servers.middle([sample.us for sample in samples]), *ms])
    report.table(["server", "calls/s", f"ratio to {REFERENCE}", "CPU us", "p50 ms", "p99 ms"], rows)
    report.disturbance([sample.strangers for samples in runs.values() for sample in samples])


def _sweep(
    report: Report,
    peers: Mapping[str, Peer],
    shapes: Sequence[tuple[int, int, int]],
    seconds: float,
    load: Cores,
) -> None:
    rows, strangers = [], []
    for shape in shapes:
        runs = _turns(PAIR, peers, shape, seconds, 1, load)
        ours, theirs = runs[OURS][0], runs[REFERENCE][0]
        strangers += [ours.strangers, theirs.strangers]
        size, connections, streams = shape
        told = [f"{size:,} B, {connections} x {streams}", ours.answers.rps, ours.us, ours.answers.ms(0.99)]
        rows.append([*told, theirs.answers.rps, theirs.us, ours.answers.rps / theirs.answers.rps])
    report.say("Pinned, by size and by connections x calls in flight of each; one run each.")
    both = [f"{OURS} calls/s", "CPU us", "p99 ms", f"{REFERENCE} calls/s", "CPU us"]
    report.table(["calls", *both, "ratio"], rows)
    report.disturbance(strangers)
