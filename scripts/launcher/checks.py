"""What is checked before a change is taken, a line for each step; a failure ends none of the others."""

import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher import paths, tools
from launcher.problem import say

PYTEST = "pytest"
AT_ONCE = 2  # Steps: the cores that CI has.


def steps() -> dict[str, list[str]]:
    """Each step's name and command; what takes longest is begun first."""
    beside = Path(sys.prefix) / "bin"
    scripts = paths.root() / "scripts"
    python, ruff = sys.executable, str(beside / "ruff")
    loose = [str(scripts / "weft")]  # Python without a suffix, which ruff does not look for.
    return {
        "mypy": [str(beside / "mypy")],
        "gen": [python, str(scripts / "gen.py"), "--check"],
        "buf lint": [python, str(scripts / "contract.py"), "lint"],
        "buf breaking": [python, str(scripts / "contract.py"), "breaking"],
        "ruff check": [ruff, "check", ".", *loose],
        "ruff format": [ruff, "format", "--check", ".", *loose],
        "imports": [str(beside / "lint-imports")],
    }


def check(arguments: Namespace) -> int:
    """All steps, then the tests; what follows the command's own flags goes to pytest."""
    wanted = {name: command for name, command in steps().items() if name not in arguments.but}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failed = any(list(pool.map(_step, wanted, wanted.values())))
    tested = 0 if PYTEST in arguments.but else tools.test(arguments)
    return tested or int(failed)


def _step(name: str, command: Sequence[str]) -> int:
    """Runs one step; what it says is shown only when it fails."""
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=paths.root(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    say(f"{'ok    ' if not done.returncode else 'FAILED'} {name:<14} {time.monotonic() - began:5.1f} s")
    if done.returncode:
        say(done.stdout + done.stderr)
    return done.returncode
