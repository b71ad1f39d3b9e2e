"""The echo servers that are compared, and how each is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from bench import h2load, machine
from bench.h2load import Answers, Shot
from bench.machine import Cores, Meter
from bench.peers.echoes import SERVICE
from bench.peers.running import Peer, peer

GRPC = {"content-type": "application/grpc", "te": "trailers"}
WARM_S = 1.0
OURS, REFERENCE = "wire", "grpc.aio"


@dataclass(frozen=True)
class Kind:
    """One server: the module of bench.peers, and whether it speaks gRPC or HTTP/1.1."""

    name: str
    module: str
    h1: bool = False
    json: bool = False


KINDS = (
    Kind(OURS, "echo_wire"),
    Kind(REFERENCE, "echo"),
    Kind("grpc sync, 10 threads", "echo_sync"),
    Kind("grpclib", "echo_grpclib"),
    Kind("Starlette", "echo_starlette", h1=True),
    Kind("FastAPI", "echo_fastapi", h1=True, json=True),
    Kind("bare uvloop, fixed answer", "echo_bare", h1=True),
)
GRPC_KINDS = tuple(kind for kind in KINDS if not kind.h1)


@dataclass(frozen=True)
class Sample:
    """One run of one server."""

    answers: Answers
    us: float  # Processor microseconds of the server a request.
    strangers: float


@contextmanager
def running(kinds: Sequence[Kind]) -> Iterator[dict[str, Peer]]:
    """All of them, each in a process of its own."""
    with ExitStack() as stack:
        yield {kind.name: stack.enter_context(peer(kind.module)) for kind in kinds}


def framed(payload: bytes) -> bytes:
    """A message of gRPC, not compressed."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def call(kind: Kind, at: Peer, size: int, connections: int, streams: int) -> Shot:
    """Unary calls of `size` bytes, over and over."""
    text = b"x" * size
    body = b'{"text": "%s"}' % text if kind.json else text if kind.h1 else framed(text)
    headers = {"content-type": "application/json"} if kind.h1 else GRPC
    url = f"{at.url}/{SERVICE}/Unary"
    return Shot(url, headers, body, h1=kind.h1, connections=connections, in_flight=streams)


def sample(at: Peer, shot: Shot, seconds: float, load: Cores) -> Sample:
    """Raises LoadFailed when an answer is missing or is a refusal."""
    h2load.fire([shot], WARM_S, load)
    with Meter({"peer": at.pid}) as meter:
        answers = h2load.fire([shot], seconds, load)[0]
    if answers.bad or not answers.count:
        raise h2load.LoadFailed(f"{shot.url}: {answers.bad} of {answers.count} answers are not 200")
    return Sample(answers, meter.seconds["peer"] / answers.count * 1e6, meter.strangers)


def pinned(servers: Mapping[str, Peer], cores: Cores) -> None:
    machine.pin([server.pid for server in servers.values()], cores)


def middle(values: Sequence[float]) -> float:
    return float(median(values))
