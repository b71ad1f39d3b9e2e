"""buf's view of the protos: `lint`, `breaking` against the contract last released, `freeze` to release one.

buf reads an image that protoc has built, so that it fetches nothing. The released contract is a file of
the repository: breaking it on purpose is a change to that file, which a reviewer sees.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from generation.protoc import BIN, Refused, Sources, image
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT / "tests" / "contract" / "released.binpb"
PACKAGE = "weft"


def built(scratch: Path) -> bytes:
    """The image of protos/ as it is now."""
    return image(Sources.of(ROOT / "protos", scratch)).SerializeToString(deterministic=True)


def buf(word: str, now: bytes, scratch: Path) -> int:
    """Runs `buf lint` or `buf breaking` on our own packages; its exit code."""
    file = scratch / "now.binpb"
    file.write_bytes(now)
    against = ["--against", str(RELEASED)] if word == "breaking" else []
    command = [str(BIN / "buf"), word, str(file), *against, "--path", PACKAGE]
    # The image has the protos at its root, so the workspace's folders are left out of the configuration.
    rules = (ROOT / "buf.yaml").read_text().split("\n")
    kept = [line for line in rules if line != "modules:" and "- path:" not in line]
    (scratch / "buf.yaml").write_text("\n".join(kept))
    return subprocess.run(
        [*command, "--config", str(scratch / "buf.yaml")], cwd=scratch, check=False
    ).returncode


def freeze(now: bytes) -> int:
    """Keeps the contract without its comments, which nobody's client depends on."""
    whole = FileDescriptorSet.FromString(now)
    for file in whole.file:
        file.ClearField("source_code_info")
    RELEASED.parent.mkdir(parents=True, exist_ok=True)
    RELEASED.write_bytes(whole.SerializeToString(deterministic=True))
    print(f"{RELEASED.relative_to(ROOT)} is the contract that must not be broken from now on")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("word", choices=["lint", "breaking", "freeze"])
    word = parser.parse_args().word
    if word == "breaking" and not RELEASED.exists():
        print(
            f"{RELEASED.relative_to(ROOT)} is missing: `scripts/contract.py freeze` writes it",
            file=sys.stderr,
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="weft-contract-") as folder:
        try:
            now = built(Path(folder))
        except Refused as refused:
            print(refused, file=sys.stderr)
            return 1
        return freeze(now) if word == "freeze" else buf(word, now, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
