"""The mesh's generated secrets, in one file that only its owner may read.

Made once and kept: a new secret is only made for what has none yet, so that a new service gets its own.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.problem import Problem

PASSWORD_BYTES = 24  # 192 bits: beyond guessing, and short enough to copy.
KEY_BYTES = 32  # AES-256.
SCRAM_ITERATIONS = 4_096  # RFC 7677 §4; the password is random, more would only slow each connection.
ADMIN_EMAIL = "admin@weft.example"


@dataclass(frozen=True)
class Credentials:
    """Everything that is secret on this machine."""

    postgres: str  # The superuser's password.
    nats: str
    mesh_key: str
    admin_email: str
    admin_password: str
    databases: dict[str, str]  # By service: its role's password.
    keys: dict[str, str]  # By service: a key of its own, for what it encrypts in its rows.

    @classmethod
    def of(cls, path: Path, services: Iterable[str]) -> "Credentials":
        """Those of the file, completed for `services`."""
        known = _read(path)
        databases = {name: known.get("databases", {}).get(name) or _random() for name in services}
        keys = {name: known.get("keys", {}).get(name) or _key() for name in services}
        made = cls(
            postgres=known.get("postgres") or _random(),
            nats=known.get("nats") or _random(),
            mesh_key=known.get("mesh_key") or _random(32),
            admin_email=os.environ.get("WEFT_ADMIN_EMAIL") or known.get("admin_email") or ADMIN_EMAIL,
            admin_password=known.get("admin_password") or _random(12),
            databases=known.get("databases", {}) | databases,
            keys=known.get("keys", {}) | keys,
        )
        if vars(made) != known:
            _write(path, vars(made))
        return made


def _random(size: int = PASSWORD_BYTES) -> str:
    return secrets.token_urlsafe(size)


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise Problem(f"{path} belongs to another account", "run as its owner, or set WEFT_HOME") from error
    except ValueError as error:
        raise Problem(
            f"{path} is damaged", "restore it, or `scripts/weft reset`: passwords are in it"
        ) from error
    return found


def _write(path: Path, values: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def scram_verifier(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5803), so that the password itself is in no statement."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    words = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{words[0]}${words[1]}:{words[2]}"
