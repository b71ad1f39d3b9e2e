"""Writes gen/ from protos/: run it after each change of a proto, and commit both."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from generation import output
from generation.protoc import Refused
from generation.tree import differences, locked, replace

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
WEB = ROOT / "web"
GEN = ROOT / "gen"


def write(scratch: Path, check: bool) -> str:
    """Brings gen/ up to date, or with `check` refuses if it is not."""
    out = scratch / "gen"
    out.mkdir()
    GEN.mkdir(exist_ok=True)
    with locked(GEN):  # One writer at a time: people and tests share the tree.
        output.write(PROTOS, WEB, out, scratch)
        stale = differences(out, GEN)
        if check and stale:
            raise Refused("\n".join(["gen/ is stale; run scripts/weft gen and commit gen/:", *stale]))
        replace(out, GEN)
    return f"{len(stale)} files written" if stale else "gen/ is current"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if gen/ is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="weft-gen-") as folder:
        try:
            print(write(Path(folder), check))
        except Refused as refused:
            print(refused, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
