"""buf's checks of the protos: names and comments, layout, and what callers of the release would miss.

buf reads images that protoc has built, so that it fetches nothing.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from generation.protoc import BIN, Refused, Sources, image, run

BUF = BIN / "buf"
PROTOS = "protos"
OURS = ("--path", "weft")  # What is imported keeps rules of its own.
RELEASED = Path("tests", "contract", "released.binpb")
FREEZE = "scripts/contract.py freeze"


def lint(root: Path, scratch: Path) -> str:
    """Refuses by buf.yaml's rules, and protos that `buf format -w protos` would change."""
    _buf(root, scratch, "lint", str(_now(root, scratch)), *OURS)
    try:
        _buf(root, scratch, "format", "--diff", "--exit-code", PROTOS)
    except Refused as refused:
        raise Refused(f"protos are not formatted; run .venv/bin/buf format -w {PROTOS}\n{refused}") from None
    return "protos keep buf's rules"


def breaking(root: Path, scratch: Path) -> str:
    """Refuses what a caller built from the released contract could not talk to."""
    if not (root / RELEASED).exists():
        return f"no released contract yet; `{FREEZE}` makes one"
    _buf(root, scratch, "breaking", str(_now(root, scratch)), "--against", str(root / RELEASED), *OURS)
    return "protos break nothing of the released contract"


def freeze(root: Path, scratch: Path) -> str:
    """Releases the contract: without its comments, which nobody's client depends on."""
    whole = FileDescriptorSet.FromString(_now(root, scratch).read_bytes())
    for file in whole.file:
        file.ClearField("source_code_info")
    (root / RELEASED).parent.mkdir(parents=True, exist_ok=True)
    (root / RELEASED).write_bytes(whole.SerializeToString(deterministic=True))
    return f"{RELEASED} is the contract that must not be broken from now on"


def _now(root: Path, scratch: Path) -> Path:
    """The image of the protos in the tree."""
    path = scratch / "now.binpb"
    path.write_bytes(image(Sources.of(root / PROTOS, scratch)).SerializeToString(deterministic=True))
    return path


def _buf(root: Path, scratch: Path, *arguments: str) -> None:
    # Its cache stays out of the home folder: who runs this may not have one.
    run([str(BUF), *arguments], root, BUF_CACHE_DIR=str(scratch / "buf"))
