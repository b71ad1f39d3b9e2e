"""Accounts that were asked for and wait for their address to be confirmed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.identity.domain.row import Row


class Registration(Row):
    """An account in waiting. Its id becomes the account's; it is forgotten when it expires."""

    __tablename__ = "registration"
    registration_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    email_key: Mapped[str]
    display_name: Mapped[str]
    locale: Mapped[str]
    zone: Mapped[str]
    password_hash: Mapped[str]
    expires_at: Mapped[datetime]
