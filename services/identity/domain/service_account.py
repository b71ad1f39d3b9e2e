"""Service accounts: machines with roles of their own."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, NotFound
from services.identity.domain.row import Row


class ServiceAccountNotFound(NotFound):
    """There is no service account {service_account_id}."""


class ServiceAccountExists(AlreadyExists):
    """There is a service account {service_account_id} already, and it is another."""


class ServiceAccount(Row):
    """A machine that calls on its own behalf."""

    __tablename__ = "service_account"
    service_account_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    disabled: Mapped[bool]
    revision: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def etag(self) -> str:
        return f"{self.revision:x}"

    def changed(self, now: datetime) -> None:
        self.revision += 1
        self.updated_at = now


class ServiceAccountRole(Row):
    """That a service account has a role. It goes when the role does."""

    __tablename__ = "service_account_role"
    service_account_id: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
