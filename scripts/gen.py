"""Writes gen/ from protos/: run it after each change of a proto, and commit both."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import tempfile
from pathlib import Path

from concurrent.futures import ThreadPoolExecutor

from generation import client, descriptors, inventory, node, openapi, rules, stubs, tree, typescript
from generation.contract import Contract
from generation.protoc import Refused, Sources, image

ROOT = Path(__file__).resolve().parent.parent
GEN = ROOT / "gen"

# What a refusal carries: the edge prints only types that its descriptor set defines.
DETAILS = ("google/rpc/status.proto", "google/rpc/error_details.proto")


def build(out: Path, scratch: Path) -> None:
    """Writes all that gen/ holds into `out`."""
    sources = Sources.of(ROOT / "protos", scratch)
    compiled = image(sources, DETAILS)
    contract = Contract(compiled, sources.files())
    rules.check(contract)
    with ThreadPoolExecutor() as pool:
        slow = [
            pool.submit(_web, sources, contract, out),
            pool.submit(client.write, sources, out / "client"),
            pool.submit(stubs.write, sources, contract, out),
        ]
        descriptors.write(compiled, out / "envoy" / "weft.binpb")
        inventory.write(contract, out / "inventory.json")
        openapi.write(contract, out / "openapi" / "weft.json")
        for each in slow:
            each.result()


def _web(sources: Sources, contract: Contract, out: Path) -> None:
    modules = node.modules(ROOT / "web")
    typescript.write(sources, contract, out / "ts", modules)
    typescript.bundle(out / "ts", out / "web" / "weft.js", modules)


def write(check: bool) -> str:
    with tempfile.TemporaryDirectory(prefix="weft-gen-") as folder:
        out, scratch = Path(folder, "gen"), Path(folder, "scratch")
        out.mkdir()
        scratch.mkdir()
        build(out, scratch)
        stale = tree.differences(out, GEN)
        if check and stale:
            raise Refused("\n".join(["gen/ is stale; run scripts/weft gen and commit gen/:", *stale]))
        if not check:
            tree.replace(out, GEN)
    return f"{len(stale)} files written" if stale else "gen/ is current"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="writes nothing; fails if gen/ is stale")
    arguments = parser.parse_args()
    GEN.mkdir(exist_ok=True)
    # One writer at a time: people and tests share the tree.
    lock = os.open(GEN, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        print(write(arguments.check))
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
