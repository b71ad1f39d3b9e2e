"""Messages a second: one request answered many times, and a stream whose every message is answered."""

from __future__ import annotations

from bench import h2load
from bench.h2load import Shot
from bench.machine import Cores, Meter
from bench.peers.echoes import MANY, SERVICE
from bench.peers.running import Peer
from bench.read import LAYOUTS
from bench.report import Report
from bench.wire import servers
from bench.wire.servers import GRPC, GRPC_KINDS, REFERENCE

SIZE = 20  # Small messages: what is measured is what each costs.
CONNECTIONS, STREAMS = 1, 4


def run(report: Report, seconds: float, repeats: int) -> None:
    report.say(
        f"### Streams of {MANY:,} messages of {SIZE} bytes, {STREAMS} at once, "
        "the server on core 0, h2load on core 1"
    )
    rows, strangers = [], []
    with servers.running(GRPC_KINDS) as peers:
        cores, load = LAYOUTS["pinned"]
        servers.pinned(peers, cores)
        for method, count in (("Many", 1), ("Each", MANY)):
            found = {}
            for kind in GRPC_KINDS:
                turns = [_rate(peers[kind.name], method, count, seconds, load) for _ in range(repeats)]
                found[kind.name] = servers.middle([rate for rate, _, _ in turns])
                us = servers.middle([us for _, us, _ in turns])
                strangers += [others for _, _, others in turns]
                rows.append([f"{_title(method)}, {kind.name}", found[kind.name], us])
            for row in rows[-len(GRPC_KINDS) :]:
                row.append(float(row[1]) / found[REFERENCE])
    report.table(["stream", "messages/s", "CPU us a message", f"ratio to {REFERENCE}"], rows)
    report.disturbance(strangers)


def _title(method: str) -> str:
    return {"Many": "server", "Each": "bidi"}[method]


def _rate(at: Peer, method: str, count: int, seconds: float, load: Cores) -> tuple[float, float, float]:
    """Messages answered a second, processor microseconds of each, what others used."""
    body = servers.framed(b"x" * SIZE) * count
    url = f"{at.url}/{SERVICE}/{method}"
    shot = Shot(url, GRPC, body, connections=CONNECTIONS, in_flight=STREAMS)
    h2load.fire([shot], servers.WARM_S, load)
    with Meter({"peer": at.pid}) as meter:
        answers = h2load.fire([shot], seconds, load)[0]
    messages = answers.body_bytes // (SIZE + 5)
    if not messages:
        raise h2load.LoadFailed(f"{url}: no messages came")
    return messages / seconds, meter.seconds["peer"] / messages * 1e6, meter.strangers
