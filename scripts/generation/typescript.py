"""The TypeScript client, and the same as one module that a page imports without a build."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from generation.contract import Contract
from generation.protoc import NODE, VALIDATE, Sources, protoc, run

# What ours import, and what a refusal's details are.
OUTSIDE = (
    VALIDATE,
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)
HELPERS = """\
// import { createClient, createGrpcWebTransport, identityV1 } from "/weft.js";
// const transport = createGrpcWebTransport({ baseUrl: location.origin });
// const { user } = await createClient(identityV1.UserService, transport).getMe({});
export { Code, ConnectError, createClient } from "@connectrpc/connect";
export { createGrpcWebTransport } from "@connectrpc/connect-web";
export {
  clone, create, equals, fromBinary, fromJson, fromJsonString, isMessage, toBinary, toJson, toJsonString,
} from "@bufbuild/protobuf";
export {
  anyUnpack, durationFromMs, durationMs, timestampDate, timestampFromDate, timestampNow,
} from "@bufbuild/protobuf/wkt";
"""
BUNDLED = ("@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web")
# Browsers of the last years: modules, private fields, BigInt, async iteration.
TARGET = "es2022"


def write(sources: Sources, contract: Contract, out: Path, modules: Path) -> None:
    """Writes one .ts for each proto, and index.ts, which gathers each package under one name."""
    out.mkdir(parents=True)
    outputs = [
        f"--plugin=protoc-gen-es={modules / '.bin' / 'protoc-gen-es'}",
        f"--es_out={out}",
        "--es_opt=target=ts,import_extension=js",
    ]
    protoc(sources, outputs, [*sources.files(), *OUTSIDE])
    packages = defaultdict(list)
    for name in [*contract.names, "google/rpc/error_details.proto"]:
        packages[Path(name).parent].append(name)
    for folder, names in packages.items():
        lines = [f'export * from "./{Path(name).stem}_pb.js";\n' for name in names]
        (out / folder / "index.ts").write_text("".join(lines))
    gathered = [f'export * as {_name(folder)} from "./{folder}/index.js";\n' for folder in packages]
    (out / "index.ts").write_text(HELPERS + "".join(gathered))


def bundle(ts: Path, out: Path, modules: Path) -> None:
    """Writes index.ts and all it needs as one ES module."""
    out.parent.mkdir(parents=True)
    esbuild = modules / "esbuild" / "bin" / "esbuild"
    # Nothing in the folders above has a say: no tsconfig.json, no node_modules.
    options = ["--bundle", "--format=esm", "--minify", f"--target={TARGET}", "--tsconfig-raw={}"]
    link = ts / "node_modules"
    link.symlink_to(modules)
    command = [str(NODE), str(esbuild), "index.ts", *options, f"--banner:js={_notice(modules)}"]
    run([*command, "--log-level=warning", f"--outfile={out}"], ts)
    link.unlink()


def _notice(modules: Path) -> str:
    """Whose work the bundle holds, and by which licence."""
    packages = [json.loads((modules / name / "package.json").read_text()) for name in BUNDLED]
    held = ", ".join(f"{each['name']} {each['version']} {each['license'].strip('()')}" for each in packages)
    return f"// Weft's client for browsers, generated. Holds {held}."


def _name(folder: Path) -> str:
    """weft/identity/v1 -> identityV1, google/rpc -> rpc."""
    first, *rest = folder.parts[1:]
    return first + "".join(part.capitalize() for part in rest)
