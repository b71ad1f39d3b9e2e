"""`python -m tests.wire.fuzz TARGET [libFuzzer's arguments]`: fuzzes one target, guided by coverage."""

from __future__ import annotations

import shlex
import sys

import atheris

with atheris.instrument_imports(include=["services.chassis.wire"]):
    from tests.wire.fuzz.targets import ANY, TARGETS, any_of_them

if __name__ == "__main__":
    target, *arguments = sys.argv[1:]
    again = shlex.join([sys.executable, "-m", "tests.wire.fuzz", target])  # By a shell: to merge, it forks.
    atheris.Setup([again, *arguments], any_of_them if target == ANY else TARGETS[target])
    atheris.Fuzz()
