"""Writes gen/ from protos/: run it after each change of a proto, and commit both."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from generation import buf, client, descriptors, inventory, node, openapi, rules, stubs, typescript
from generation.contract import Contract
from generation.protoc import Refused, Sources, image
from generation.tree import differences, locked, replace

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"

# What a refusal carries: the edge prints only types that its descriptor set defines.
DETAILS = ("google/rpc/status.proto", "google/rpc/error_details.proto")


def build(protos: Path, out: Path, scratch: Path) -> None:
    """Writes all that gen/ holds into the empty folder `out`."""
    sources = Sources.of(protos, scratch)
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


def write(scratch: Path, check: bool) -> str:
    """Brings gen/ up to date, or with `check` refuses if it is not."""
    out = scratch / "gen"
    out.mkdir()
    GEN.mkdir(exist_ok=True)
    with locked(GEN):  # One writer at a time: people and tests share the tree.
        build(PROTOS, out, scratch)
        stale = differences(out, GEN)
        if check and stale:
            raise Refused("\n".join(["gen/ is stale; run scripts/weft gen and commit gen/:", *stale]))
        replace(out, GEN)
    return f"{len(stale)} files written" if stale else "gen/ is current"


def jobs(arguments: argparse.Namespace, scratch: Path) -> Iterator[str]:
    """What was asked for; without flags, to write gen/."""
    if arguments.lint:
        yield buf.lint(ROOT, scratch)
    if arguments.breaking is not None:
        yield buf.breaking(ROOT, scratch, arguments.breaking)
    if arguments.check or not (arguments.lint or arguments.breaking is not None):
        yield write(scratch, arguments.check)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if gen/ is stale")
    parser.add_argument("--lint", action="store_true", help="buf lint and buf format of protos/")
    parser.add_argument(
        "--breaking",
        nargs="?",
        const="",
        metavar="COMMIT",
        help="buf breaking; against where this branch left main, on main the commit before",
    )
    with tempfile.TemporaryDirectory(prefix="weft-gen-") as folder:
        try:
            for said in jobs(parser.parse_args(), Path(folder)):
                print(said)
        except Refused as refused:
            print(refused, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
