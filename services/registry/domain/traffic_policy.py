"""Traffic policies: rows and refusals."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import FailedPrecondition, NotFound, ResourceExhausted
from services.registry.domain.row import Row

POLICIES_MAX = 2_000  # One a service; far more services than one team of any size has.


class UnknownTrafficPolicy(NotFound):
    """The service {service} has no traffic policy."""


class TooManyTrafficPolicies(ResourceExhausted):
    """There are {max} traffic policies already."""


class VersionNotServed(FailedPrecondition):
    """No instance of {service} with the version {version} is serving."""


class OtherShares(FailedPrecondition):
    """The calls of {service} do not all go to the version {version} now."""


class RolloutInProgress(FailedPrecondition):
    """Rollout {rollout_id} deals the calls of {service}; promote or abort it first."""


class TrafficPolicy(Row):
    """How the calls of one service are dealt."""

    __tablename__ = "traffic_policy"
    service: Mapped[str] = mapped_column(primary_key=True)
    settings: Mapped[bytes]
    revision: Mapped[int] = mapped_column(BigInteger)  # Of the registry when it last changed.
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


def check_whole(service: str, version: str, shares: Mapping[str, int]) -> None:
    """All calls go to `version`, or to all versions alike. Raises OtherShares."""
    if shares and any(weight > 0 and other != version for other, weight in shares.items()):
        raise OtherShares(service=service, version=version)
