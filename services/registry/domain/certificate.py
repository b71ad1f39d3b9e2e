"""Certificates of instances and the authorities that sign them: rows, refusals, and who signs now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from services.registry.domain.row import Row

C = TypeVar("C", bound="Candidate")

ROOT, INTERMEDIATE, OUTSIDE = "ROOT", "INTERMEDIATE", "OUTSIDE"
LIVE_MAX = 1_000  # Of one service: its instances renew after two thirds of an hour, each at most twice.
RENEW_AFTER = 2 / 3  # Of a life: a third is left for a registry that is away.
FORGOTTEN_AFTER = timedelta(days=1)
REVOKED_FORGOTTEN_AFTER = timedelta(days=30)  # Longer than any process lives between two releases.


class BadSigningRequest(InvalidArgument):
    """The signing request is refused: {why}."""


class NotYourName(PermissionDenied):
    """The signing request names {named}; the service {service} is signed for {allowed}."""


class InstanceRevoked(FailedPrecondition):
    """A certificate of instance {instance_id} was revoked: it gets no other."""


class AuthorityEnded(FailedPrecondition):
    """The authority from outside ended at {ended}; settings must name another."""


class TooManyCertificates(ResourceExhausted):
    """The service {service} has {max} certificates that have not ended."""


class UnknownCertificate(NotFound):
    """There is no certificate {serial}, or it was forgotten since it ended."""


class Authority(Row):
    """Who signs, or has signed."""

    __tablename__ = "authority"
    authority_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    serial: Mapped[str]
    root: Mapped[str]  # Serial of its root.
    chain: Mapped[str]
    sealed_key: Mapped[bytes | None]
    ends_at: Mapped[datetime]
    made_at: Mapped[datetime]


class Certificate(Row):
    """One that was signed for an instance."""

    __tablename__ = "certificate"
    serial: Mapped[str] = mapped_column(primary_key=True)
    spiffe_id: Mapped[str]
    service: Mapped[str]
    instance_id: Mapped[UUID]
    authority_id: Mapped[UUID]
    authority_serial: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Candidate(Protocol):
    """An authority, as far as the choice goes."""

    @property
    def root(self) -> str: ...
    @property
    def ends_at(self) -> datetime: ...
    @property
    def made_at(self) -> datetime: ...


def chosen(candidates: Sequence[C], now: datetime, life: timedelta) -> C | None:
    """Which of them signs, the best being first: the first whose root everybody has heard of.

    That is one that was told for a `life`, for each process renews within one and is told then. Where there
    is none the mesh is young, or has lost what it had: the oldest. None: nobody can.
    """
    able = [each for each in candidates if each.ends_at > now]
    heard = {each.root for each in able if each.made_at + life <= now}
    known = (each for each in able if each.root in heard)
    oldest = min(reversed(able), key=lambda each: each.made_at, default=None)
    return next(known, oldest)
