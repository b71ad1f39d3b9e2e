"""h2load of nghttp2 as the load generator: one process for each kind of request, their answers counted.

A gRPC refusal has the status 200 and no body, so the bodies are counted too: `whole` compares their bytes
with those of one answer that was looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import Message

from bench.machine import Cores

PROGRAM = "h2load"
MISSING = (
    "h2load is missing: `apt-get install nghttp2-client` (Debian, Ubuntu), `brew install nghttp2` (macOS)"
)
SLACK_S = 30.0  # Beyond the duration; then something hangs.
BODY_BYTES = re.compile(r"\((\d+)\) data")
FINISHED = re.compile(r"finished in ([\d.]+)(ms|s),")


class LoadFailed(Exception):
    """h2load is missing, hung, or could not connect."""


@dataclass(frozen=True)
class Shot:
    """What one process of h2load sends, over and over."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # Absent: a GET.
    h1: bool = False
    verb: str = ""  # Other than GET and POST.
    in_flight: int = 1  # Streams of one connection; with h1 that many connections.
    connections: int = 1  # Each with `in_flight` streams; with h1 one is all there is.
    rate: float = 0.0  # Requests a second; 0: as fast as answers come.


@dataclass
class Answers:
    """What came back within the duration."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[int] = field(default_factory=list)  # Microseconds, rising.
    body_bytes: int = 0

    @property
    def count(self) -> int:
        return len(self.latencies)

    @property
    def rps(self) -> float:
        return self.count / self.seconds

    def ms(self, share: float) -> float:
        """A percentile of the latency."""
        return self.latencies[min(self.count - 1, int(self.count * share))] / 1000 if self.count else 0.0

    @property
    def bad(self) -> int:
        return self.count - self.statuses[200]


def frame(message: Message) -> bytes:
    """One gRPC message as it goes over the wire, not compressed."""
    payload = message.SerializeToString()
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def require() -> None:
    """Raises LoadFailed, saying how to get it."""
    if not shutil.which(PROGRAM) or not shutil.which("taskset"):
        raise LoadFailed(MISSING)


def fire(shots: Sequence[Shot], seconds: float, cores: Cores) -> list[Answers]:
    """All shots at once, each from a process of its own; their answers in the same order."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        started = [_start(shot, seconds, cores, Path(folder) / str(n)) for n, shot in enumerate(shots)]
        return [_end(process, seconds, Path(folder) / str(n)) for n, process in enumerate(started)]


def together(answers: Sequence[Answers]) -> Answers:
    """The answers of shots that ran side by side, as one."""
    whole = Answers(answers[0].seconds)
    for each in answers:
        whole.statuses += each.statuses
        whole.latencies += each.latencies
        whole.body_bytes += each.body_bytes
    whole.latencies.sort()
    return whole


def connect(url: str, headers: Mapping[str, str], body: Path, count: int, cores: Cores) -> float:
    """Seconds that `count` new connections take, all at once, one request each. Raises LoadFailed."""
    words = ["taskset", "-c", cores, PROGRAM, "-n", str(count), "-c", str(count), "-m", "1", "-d", str(body)]
    words += [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    done = subprocess.run([*words, url], capture_output=True, text=True, check=False, timeout=SLACK_S)
    took = FINISHED.search(done.stdout)
    if done.returncode or not took or f"{count} succeeded" not in done.stdout:
        raise LoadFailed(done.stdout[-600:] + done.stderr[-600:])
    return float(took[1]) / (1000 if took[2] == "ms" else 1)


def _start(shot: Shot, seconds: float, cores: Cores, log: Path) -> subprocess.Popen[str]:
    clients = shot.in_flight * shot.connections if shot.h1 else shot.connections
    words = ["taskset", "-c", cores, PROGRAM, "-D", f"{seconds:g}", f"--log-file={log}"]
    words += ["-c", str(clients), *(["--h1"] if shot.h1 else ["-m", str(shot.in_flight)])]
    words += [word for name, value in shot.headers.items() for word in ("-H", f"{name}: {value}")]
    if shot.body is not None:
        body = log.with_suffix(".body")
        body.write_bytes(shot.body)
        words += ["-d", str(body)]
    if shot.verb:
        words += ["-H", f":method: {shot.verb}"]
    if shot.rate:
        words += [f"--rps={shot.rate / clients:.3f}"]
    return subprocess.Popen([*words, shot.url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _end(process: subprocess.Popen[str], seconds: float, log: Path) -> Answers:
    try:
        said, _ = process.communicate(timeout=seconds + SLACK_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise LoadFailed("h2load did not end") from None
    if process.returncode or not (body := BODY_BYTES.search(said)):
        raise LoadFailed(said[-600:])
    answers = Answers(seconds, body_bytes=int(body[1]))
    for line in log.read_text().splitlines():
        _, status, latency = line.split("\t")[:3]
        answers.statuses[int(status)] += 1
        answers.latencies.append(int(latency))
    answers.latencies.sort()
    return answers
