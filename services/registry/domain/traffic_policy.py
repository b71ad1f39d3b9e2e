"""Traffic policies: rows and refusals."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import NotFound, ResourceExhausted
from services.registry.domain.row import Row

POLICIES_MAX = 2_000  # One a service; far more services than one team of any size has.


class UnknownTrafficPolicy(NotFound):
    """The service {service} has no traffic policy."""


class TooManyTrafficPolicies(ResourceExhausted):
    """There are {max} traffic policies already."""


class TrafficPolicy(Row):
    """How the calls of one service are dealt."""

    __tablename__ = "traffic_policy"
    service: Mapped[str] = mapped_column(primary_key=True)
    settings: Mapped[bytes]
    revision: Mapped[int] = mapped_column(BigInteger)  # Of the registry when it last changed.
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
