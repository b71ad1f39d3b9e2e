"""What fuzzing has found worth keeping: for each target a file of inputs, one a line, in hexadecimal.

`python -m tests.wire.fuzz.corpus TARGET FOLDER...` keeps of these folders and of what was kept what covers
something of its own, and no more.
"""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[3]
KEPT = Path(__file__).parent / "corpus"
INPUT_BYTES_MAX = 300  # What is kept is small, so that a failure can be read.


def kept(target: str) -> list[bytes]:
    path = KEPT / f"{target}.hex"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def unpack(inputs: list[bytes], folder: Path) -> None:
    """As libFuzzer has them: a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / sha256(data).hexdigest()[:16]).write_bytes(data)


def fuzz(target: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """libFuzzer, in a process of its own: it does not return from one."""
    command = [sys.executable, "-m", "tests.wire.fuzz", target, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def keep(target: str, folders: list[Path]) -> int:
    """Merges, smallest first; how many inputs are kept."""
    with TemporaryDirectory() as temporary:
        before, after = Path(temporary, "before"), Path(temporary, "after")
        unpack(kept(target), before)
        after.mkdir()
        done = fuzz(target, "-merge=1", f"-max_len={INPUT_BYTES_MAX}", after, before, *folders)
        if done.returncode:
            raise SystemExit(done.stderr)
        inputs = sorted({path.read_bytes() for path in after.iterdir()}, key=lambda data: (len(data), data))
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{target}.hex").write_text("".join(f"{data.hex()}\n" for data in inputs if data))
    return len(inputs)


if __name__ == "__main__":
    print(keep(sys.argv[1], [Path(folder) for folder in sys.argv[2:]]))  # noqa: T201 - it is a command
