"""Ids of what an order asks others for: they follow from its own, so that asking again is asking once."""

from uuid import UUID, uuid5


def derived(of: UUID | str, what: str) -> str:
    """The id of one thing of an order, a shipment, a return or a refund."""
    return str(uuid5(UUID(str(of)), what))
