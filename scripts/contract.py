"""The contract with callers: `lint` its protos, `breaking` against the released one, `freeze` to release it.

The released contract is a file of the repository: breaking it on purpose is a change to that file, which a
reviewer sees. Before the first release nothing can break.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from generation import buf
from generation.protoc import Refused

ROOT = Path(__file__).resolve().parent.parent
WORDS = {"lint": buf.lint, "breaking": buf.breaking, "freeze": buf.freeze}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("word", choices=WORDS)
    word = parser.parse_args().word
    with tempfile.TemporaryDirectory(prefix="weft-contract-") as folder:
        try:
            print(WORDS[word](ROOT, Path(folder)))
        except Refused as refused:
            print(refused, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
