"""Accounts for a run: made by the administrator, signed in, each with its token."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.mesh import Mesh

WAIT_S = 30.0


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in."""

    user_id: str
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


def administrator(mesh: Mesh) -> Person:
    email, password = mesh.secrets["admin_email"], mesh.secrets["admin_password"]
    with httpx.Client(base_url=mesh.plain, timeout=WAIT_S) as client:
        return _signed_in(client, email, password)


def people(mesh: Mesh, count: int) -> list[Person]:
    """New accounts, each signed in."""
    admin = administrator(mesh)
    with httpx.Client(base_url=mesh.plain, timeout=WAIT_S) as client:
        return [_made(client, admin, number) for number in range(count)]


def _made(client: httpx.Client, admin: Person, number: int) -> Person:
    email, password = f"bench.{secrets.token_hex(5)}@weft.example", f"correct horse {secrets.token_hex(8)}"
    profile = {"displayName": f"Benchmark {number}", "locale": "en", "zone": "Europe/Vienna"}
    body = {"email": email, "password": password, "profile": profile}
    _ok(client.post("/v1/users", json=body, headers=admin.bearer))
    return _signed_in(client, email, password)


def _signed_in(client: httpx.Client, email: str, password: str) -> Person:
    tokens = _ok(client.post("/v1/sessions", json={"email": email, "password": password}))["tokens"]
    return Person(tokens["userId"], email, password, tokens["accessToken"])


def _ok(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()
