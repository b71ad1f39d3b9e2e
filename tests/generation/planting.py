"""Protos laid out for a test, and what generation makes of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from generation import output
from generation.contract import Contract
from generation.protoc import Sources, image

ROOT = Path(__file__).resolve().parents[2]

OPTIONS = "weft/options/v1/options.proto"
HEADER = """
syntax = "proto3";
package weft.planted.v1;
import "buf/validate/validate.proto";
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/timestamp.proto";
import "weft/options/v1/options.proto";
"""
Plant = Callable[..., Contract]


def lay(root: Path, files: dict[str, str]) -> Path:
    """A folder of protos: our options, and these under weft/planted/v1."""
    for name, text in {OPTIONS: (ROOT / "protos" / OPTIONS).read_text(), **files}.items():
        path = root / name if "/" in name else root / "weft" / "planted" / "v1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def compiled(folder: Path, body: str, events: str = "") -> Contract:
    """The contract of a planted.proto and, if `events` is given, an events.proto."""
    files = {"planted.proto": HEADER + body} | ({"events.proto": HEADER + events} if events else {})
    sources = Sources.of(lay(folder / "protos", files), folder)
    ours = [name for name in sources.files() if name != OPTIONS]
    return Contract(image(sources, output.DETAILS), ours)


def make(folder: Path, protos: Path) -> Path:
    """All of gen/, made anew in `folder`."""
    out = folder / "gen"
    out.mkdir()
    output.write(protos, ROOT / "web", out, folder)
    return out
