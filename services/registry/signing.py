"""The mesh's authorities as they are kept: made when they are first asked for, sealed, renewed in time.

An intermediate is made anew when a third of its life is left; what the old one signed stays good, since both
hang from one root. Another root (an outside one comes, ours grows old) is told to everybody for the life of a
certificate before anything is signed under it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.config import BadSetting
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.sealing import BrokenSeal, Seal, derived
from services.registry.domain import authority as domain
from services.registry.domain.certificate import (
    INTERMEDIATE,
    OUTSIDE,
    ROOT,
    Authority,
    AuthorityEnded,
    chosen,
)
from services.registry.service import pack
from services.registry.settings import PREFIX, RegistrySettings
from services.registry.store import certificate as store
from weft.registry.v1.events_pb2 import AuthorityMade

PURPOSE = "weft.registry.v1 keys of authorities"
RENEWED_AT = domain.INTERMEDIATE_LIFE / 3  # What is left of an intermediate then: ten days.
ROOT_RENEWED_AT = timedelta(days=365)

log = logging.getLogger("weft.registry")


@dataclass(frozen=True)
class Signing:
    """Who signs now."""

    authority_id: UUID
    authority: domain.Authority


class Authorities:
    """Of one process. What it has opened it keeps: authorities never change."""

    def __init__(self, settings: RegistrySettings, mesh_key: str) -> None:
        """Raises BadSetting."""
        self._seal = Seal(derived((settings.key or mesh_key).encode(), PURPOSE))
        self.trust_domain = settings.trust_domain
        self.life = timedelta(seconds=settings.certificate_s)
        self._outside = _outside(settings)
        self._opened: dict[str, domain.Authority] = {}

    async def signing(self, tx: Tx, now: datetime) -> Signing:
        """Makes what is not there yet. Raises AuthorityEnded."""
        row = chosen(self._able(await self._there(tx, now)), now, self.life)
        assert row is not None, "one was made just now"
        return Signing(row.authority_id, self._open(row))

    async def trusted(self, tx: Tx, now: datetime) -> str:
        """The roots in PEM. Makes what is not there yet. Raises AuthorityEnded."""
        rows, signed = await self._there(tx, now), await store.signed(tx, now)
        roots = {}
        for row in rows:
            if row.kind == INTERMEDIATE or row.authority_id in signed or self._is_ours(row):
                (*_, root) = domain.certificates(row.chain)
                roots[row.root] = root
        return domain.pem([roots[serial] for serial in sorted(roots)])

    async def _there(self, tx: Tx, now: datetime) -> Sequence[Authority]:
        """All that have not ended; one at least can sign."""
        if self._outside and self._outside.ends_at <= now:
            raise AuthorityEnded(ended=self._outside.ends_at)
        rows = await store.authorities(tx, now)
        if self._wanting(rows, now):
            await store.alone(tx)
            rows = await store.authorities(tx, now)
            if self._wanting(rows, now):
                rows = [*rows, *await self._make(tx, rows, now)]
        return rows

    def _wanting(self, rows: Iterable[Authority], now: datetime) -> bool:
        """Whether another authority is to be made."""
        if self._outside:
            return not any(self._is_ours(row) for row in rows)
        lasting = (row for row in self._able(rows) if row.ends_at - now >= RENEWED_AT)
        return next(lasting, None) is None

    def _able(self, rows: Iterable[Authority]) -> list[Authority]:
        """Those that can sign, the best first: the one from outside, then ours, newest first."""
        own = [row for row in rows if row.kind == INTERMEDIATE and self._opens(row)]
        outside = [row for row in rows if self._is_ours(row)]
        return [*outside, *sorted(own, key=lambda row: row.made_at, reverse=True)]

    def _is_ours(self, row: Authority) -> bool:
        """Whether it is the one from outside that settings name."""
        return (
            row.kind == OUTSIDE
            and self._outside is not None
            and row.serial == domain.serial_of(self._outside.certificate)
        )

    async def _make(self, tx: Tx, rows: Sequence[Authority], now: datetime) -> list[Authority]:
        made = [_row(OUTSIDE, self._outside, now)] if self._outside else self._make_own(rows, now)
        for row in made:
            tx.add(row)
            event = AuthorityMade(serial=row.serial, outside=row.kind == OUTSIDE)
            event.expire_time.CopyFrom(pack.stamp(row.ends_at))
            await emit(tx, event)
        await tx.flush()  # Before what it signs.
        return made

    def _make_own(self, rows: Sequence[Authority], now: datetime) -> list[Authority]:
        """An intermediate, and a root where there is none, or it is old, or nobody is told of it any more."""
        told = {row.root for row in rows if row.kind == INTERMEDIATE}
        roots = [
            row
            for row in rows
            if row.kind == ROOT
            and row.serial in told
            and row.ends_at - now >= ROOT_RENEWED_AT
            and self._opens(row)
        ]
        made = []
        if roots:
            root = self._open(max(roots, key=lambda row: row.ends_at))
        else:
            root = domain.make_root(self.trust_domain, now)
            made.append(self._sealed(_row(ROOT, root, now), root))
        intermediate = domain.make_intermediate(root, self.trust_domain, now)
        return [*made, self._sealed(_row(INTERMEDIATE, intermediate, now), intermediate)]

    def _sealed(self, row: Authority, authority: domain.Authority) -> Authority:
        row.sealed_key = self._seal.seal(domain.key_bytes(authority), row.serial.encode())
        self._opened[row.serial] = authority
        return row

    def _opens(self, row: Authority) -> bool:
        """Whether our key opens its: not after the key was changed. Then another is made."""
        try:
            self._open(row)
        except BrokenSeal:
            log.error("authority %s was sealed with another key", row.serial)  # noqa: TRY400
            return False
        return True

    def _open(self, row: Authority) -> domain.Authority:
        """Raises BrokenSeal."""
        if row.kind == OUTSIDE:
            assert self._outside is not None
            return self._outside
        if row.serial not in self._opened:
            key = self._seal.open(row.sealed_key or b"", row.serial.encode())
            self._opened[row.serial] = domain.opened(row.chain, key)
        return self._opened[row.serial]


def _row(kind: str, authority: domain.Authority, now: datetime) -> Authority:
    return Authority(
        authority_id=uuid7(now),
        kind=kind,
        serial=domain.serial_of(authority.certificate),
        root=domain.serial_of(authority.root),
        chain=domain.pem(authority.chain),
        ends_at=authority.ends_at,
        made_at=now,
    )


def _outside(settings: RegistrySettings) -> domain.Authority | None:
    """Raises BadSetting."""
    if not settings.authority:
        return None
    try:
        return domain.from_outside(settings.authority, settings.authority_key)
    except domain.BadAuthority as error:
        raise BadSetting(f"{PREFIX}AUTHORITY: {error}") from None
