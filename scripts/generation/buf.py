"""buf's checks of the protos: names and comments, layout, and what old callers would miss."""

from __future__ import annotations

import tarfile
from pathlib import Path

from generation.protoc import BIN, Refused, Sources, image, run

BUF = BIN / "buf"
TRUNK = "main"
PROTOS = "protos"


def lint(root: Path, scratch: Path) -> str:
    """Refuses by buf.yaml's rules, and protos that `buf format -w protos` would change."""
    compiled = _image(Sources.of(root / PROTOS, scratch), scratch / "new.binpb")
    _buf(root, scratch, "lint", str(compiled), *_ours(root))
    try:
        _buf(root, scratch, "format", "--diff", "--exit-code", PROTOS)
    except Refused as refused:
        raise Refused(f"protos are not formatted; run .venv/bin/buf format -w {PROTOS}\n{refused}") from None
    return "protos keep buf's rules"


def breaking(root: Path, scratch: Path, against: str = "") -> str:
    """Refuses what a caller built from the protos of the commit `against` could not talk to."""
    commit = against or base(root)
    old = _checked_out(root, commit, scratch / "old") if commit else None
    if old is None:
        return f"nothing to compare: no protos in {commit}" if commit else "nothing to compare: first commit"
    before = _image(Sources.of(old, scratch), scratch / "old.binpb")
    after = _image(Sources.of(root / PROTOS, scratch), scratch / "new.binpb")
    ours = _ours(old.parent)
    _buf(root, scratch, "breaking", str(after), "--against", str(before), *ours)
    return f"protos break nothing since {commit[:12]}"


def base(root: Path) -> str:
    """What the working tree goes on from: where it left the trunk; on the trunk, the commit before.
    Empty at the first commit."""
    head = _git(root, "rev-parse", "HEAD")
    trunk = _commit(root, f"origin/{TRUNK}") or _commit(root, TRUNK)
    fork = _git(root, "merge-base", "HEAD", trunk) if trunk else ""
    changed = _git(root, "status", "--porcelain", "--", PROTOS)
    if changed or (fork and fork != head):
        return fork or head
    return _commit(root, "HEAD^")


def _image(sources: Sources, path: Path) -> Path:
    path.write_bytes(image(sources).SerializeToString(deterministic=True))
    return path


def _ours(root: Path) -> list[str]:
    """Only our packages: what is imported keeps rules of its own."""
    folders = sorted(path.name for path in (root / PROTOS).iterdir() if path.is_dir())
    return [argument for folder in folders for argument in ("--path", folder)]


def _buf(root: Path, scratch: Path, *arguments: str) -> None:
    # Its cache stays out of the home folder: who runs this may not have one.
    run([str(BUF), *arguments], root, BUF_CACHE_DIR=str(scratch / "buf"))


def _checked_out(root: Path, commit: str, folder: Path) -> Path | None:
    """The protos of a commit; None if it has none."""
    if not _git(root, "ls-tree", "-r", "--name-only", commit, "--", PROTOS):
        return None
    archive = folder.with_suffix(".tar")
    _git(root, "archive", "--format=tar", f"--output={archive}", commit, PROTOS)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / PROTOS


def _commit(root: Path, name: str) -> str:
    """The commit's id; empty if there is no such."""
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except Refused:
        return ""


def _git(root: Path, *arguments: str) -> str:
    return run(["git", *arguments], root).strip()
