"""All that gen/ holds, from one folder of protos."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from generation import client, descriptors, envoy_api, inventory, node, openapi, rules, stubs, typescript
from generation.contract import Contract
from generation.protoc import Sources, image

# What a refusal carries: the edge prints only types that its descriptor set defines.
DETAILS = ("google/rpc/status.proto", "google/rpc/error_details.proto")


def write(protos: Path, web: Path, out: Path, scratch: Path) -> None:
    """Fills the empty folder `out`; `web` is where package-lock.json pins the npm packages.
    Raises Refused, before anything is written, for protos that do not compile or break a rule."""
    sources = Sources.of(protos, scratch)
    contract = Contract(image(sources, DETAILS), sources.files())
    rules.check(contract)
    with ThreadPoolExecutor() as pool:  # Those that wait for processes.
        slow = [
            pool.submit(_typescript, sources, contract, web, out),
            pool.submit(client.write, sources, out / "client"),
            pool.submit(stubs.write, sources, contract, out),
            pool.submit(envoy_api.write, out, scratch),
        ]
        descriptors.write(contract, out / "envoy" / "weft.binpb")
        inventory.write(contract, out / "inventory.json")
        openapi.write(contract, out / "openapi" / "weft.json")
        for each in slow:
            each.result()


def _typescript(sources: Sources, contract: Contract, web: Path, out: Path) -> None:
    modules = node.modules(web)
    typescript.write(sources, contract, out / "ts", modules)
    typescript.bundle(out / "ts", out / "web" / "weft.js", modules)
