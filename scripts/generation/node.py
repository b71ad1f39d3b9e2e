"""Node.js from its wheel, and the npm packages that web/package-lock.json pins."""

from __future__ import annotations

import hashlib
from pathlib import Path

from generation.protoc import NODE, run
from generation.tree import locked

# Wheels hold no symbolic links, so the `npm` beside `node` does not find its own modules.
NPM = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
STAMP = ".weft-lock"


def modules(web: Path) -> Path:
    """The folder of installed packages; installs them when they are not those of the lock."""
    installed = web / "node_modules"
    lock = hashlib.sha256((web / "package-lock.json").read_bytes()).hexdigest()
    stamp = installed / STAMP
    with locked(web):  # Two installs at once would undo one another.
        if not stamp.exists() or stamp.read_text() != lock:
            run([str(NODE), str(NPM), "ci", "--silent", "--prefer-offline"], web)
            stamp.write_text(lock)
    return installed
