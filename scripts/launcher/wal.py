"""Segments of WAL as files: which follow each other, whether they can be read, and how far they reach."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launcher.archive import SEGMENT_BYTES
from launcher.postgres import Cluster
from launcher.problem import Problem

SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
PER_ID = 0x1_0000_0000 // SEGMENT_BYTES  # Segments that share the middle part of a name.
POSITION = re.compile(r"\b([0-9A-F]{1,8})/([0-9A-F]{1,8})\b")
ENDED = re.compile(r"desc: (?:COMMIT|ABORT)\w*(?: PREPARED)? (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")


@dataclass(frozen=True)
class Segment:
    """One file of WAL. `number` counts from the beginning of the cluster."""

    path: Path
    timeline: int
    number: int
    partial: bool

    @property
    def name(self) -> str:
        return f"{self.timeline:08X}{self.number // PER_ID:08X}{self.number % PER_ID:08X}"


def segments(folder: Path) -> list[Segment]:
    """Those of a folder, in order; one that is whole stands for its beginning, too."""
    known: dict[tuple[int, int], Segment] = {}
    for path in sorted(folder.iterdir(), reverse=True):
        if match := SEGMENT.fullmatch(path.name):
            timeline, number = int(match[1], 16), int(match[2], 16) * PER_ID + int(match[3], 16)
            known[timeline, number] = Segment(path, timeline, number, bool(match[4]))
    return sorted(known.values(), key=lambda each: (each.timeline, each.number))


def number(position: str) -> int:
    """The segment that a position such as `0/2000028` is in."""
    high, _, low = position.partition("/")
    return ((int(high, 16) << 32) + int(low, 16)) // SEGMENT_BYTES


def gather(source: Path, target: Path, timeline: int, start: str) -> None:
    """Copies what recovery from `start` on needs into a cluster's own WAL. Raises Problem at a gap."""
    copied = [each for each in segments(source) if each.timeline == timeline and each.number >= number(start)]
    for each in copied:
        shutil.copyfile(each.path, target / each.name)
    expected = number(start)
    for each in (each for each in segments(target) if each.timeline == timeline):
        if each.number != expected:
            missing = Segment(source, timeline, expected, partial=False).name
            raise Problem(
                f"the archive is damaged: {source / missing} is missing",
                "what lies before it can be restored from a backup whose WAL is whole; see docs/backups.md",
            )
        if each.path.stat().st_size != SEGMENT_BYTES:
            raise Problem(
                f"the archive is damaged: {source / each.name} has {each.path.stat().st_size} bytes",
                f"a segment has {SEGMENT_BYTES}; see docs/backups.md",
            )
        expected += 1


def reach(cluster: Cluster, folder: Path, timeline: int, start: str) -> datetime | None:
    """The latest end of a transaction in it; None when none has ended. Raises Problem on a damaged segment.

    Every record has a checksum of its own, and all are read. The end of the WAL looks like a damaged
    record; what comes after it tells which it was, for only the last segment may end early.
    """
    own = [each for each in segments(folder) if each.timeline == timeline]
    range_ = ["-t", str(timeline), "-s", start, own[0].name, own[-1].name]
    words = ["-p", str(folder), "--rmgr=Transaction", *range_]
    last = ""
    with subprocess.Popen(
        [str(cluster.programs / "pg_waldump"), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"TZ": "UTC", "LC_ALL": "C.UTF-8"},
    ) as reader:  # fmt: skip
        assert reader.stdout
        assert reader.stderr
        for line in reader.stdout:
            if match := ENDED.search(line):
                last = max(last, match[1])
        complaint = reader.stderr.read()
    stopped = [(int(high, 16) << 32) + int(low, 16) for high, low in POSITION.findall(complaint)]
    if stopped and max(stopped) // SEGMENT_BYTES < own[-1].number:
        broken = own[max(stopped) // SEGMENT_BYTES - own[0].number]
        raise Problem(
            f"the archive is damaged: {broken.name} cannot be read: {complaint.strip().splitlines()[-1]}",
            "choose a time before it with a backup of before it, or bring back the file; see docs/backups.md",
        )
    return datetime.fromisoformat(last).replace(tzinfo=UTC) if last else None
