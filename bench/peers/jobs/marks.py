"""When each job was started, seen from outside the worker: a file that its handlers write into.

Standard library only: peers run it in an environment of their own. Times are those of CLOCK_MONOTONIC, which
all processes of a machine share.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

PATH = "WEFT_BENCH_MARKS"
_TIMES = struct.Struct("dd")


class Marks:
    """For each job a flag, and when it was sent and started."""

    def __init__(self, path: Path, count: int) -> None:
        """Makes the file when it is not there."""
        self._count = count
        size = count * (1 + _TIMES.size)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)

    @classmethod
    def here(cls) -> Marks:
        """Those of the run that this process is part of."""
        path = Path(os.environ[PATH])
        return cls(path, path.stat().st_size // (1 + _TIMES.size))

    def hit(self, index: int, sent: float) -> None:
        """Called by the handler of job `index`."""
        _TIMES.pack_into(self._map, self._count + index * _TIMES.size, sent, time.monotonic())
        self._map[index] = 1

    @property
    def missing(self) -> int:
        return self._map[: self._count].count(0)

    def clear(self) -> None:
        self._map[:] = bytes(len(self._map))

    def seconds(self) -> float:
        """From the first start to the last."""
        starts = [started for _, started in self._times()]
        return max(starts) - min(starts)

    def began(self) -> float:
        """When the first job was started."""
        return min(started for _, started in self._times())

    def starts(self) -> list[float]:
        """When each job was started."""
        return [started for _, started in self._times()]

    def latencies_ms(self) -> list[float]:
        """From sending to starting, rising."""
        return sorted((started - sent) * 1000 for sent, started in self._times())

    def _times(self) -> list[tuple[float, float]]:
        packed = self._map[self._count :]
        return [times for times, flag in zip(_TIMES.iter_unpack(packed), self._map, strict=False) if flag]
