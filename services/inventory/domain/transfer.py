"""Transfers: stock that has left one location and not arrived at the other."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from services.inventory.domain.row import Row


class UnknownTransfer(NotFound):
    """There is no transfer {transfer_id}."""


class TransferIdReused(AlreadyExists):
    """Transfer {transfer_id} was made otherwise."""


class TransferEnded(FailedPrecondition):
    """Transfer {transfer_id} is {state}."""


class TransferNowhere(InvalidArgument):
    """A transfer leads to another location."""

    def __init__(self) -> None:
        super().__init__(field="to_location_id")


class MoreThanSent(InvalidArgument):
    """{received} of {sku} cannot arrive: {sent} were sent."""


class Transfer(Row):
    """A transfer."""

    __tablename__ = "transfer"
    transfer_id: Mapped[UUID] = mapped_column(primary_key=True)
    from_location_id: Mapped[UUID]
    to_location_id: Mapped[UUID]
    state: Mapped[str]
    reference: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class TransferLine(Row):
    """Its units of a SKU."""

    __tablename__ = "transfer_line"
    transfer_id: Mapped[UUID] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(primary_key=True)
    units: Mapped[int]
    received: Mapped[int]


def arrived(sent: Mapping[str, int], named: Mapping[str, int] | None) -> dict[str, int]:
    """What arrives of what was sent; everything where nothing is named. Raises MoreThanSent."""
    if named is None:
        return dict(sent)
    for sku, units in named.items():
        if units > sent.get(sku, 0):
            raise MoreThanSent(sku=sku, received=units, sent=sent.get(sku, 0), field="lines")
    return {sku: named.get(sku, 0) for sku in sent}
