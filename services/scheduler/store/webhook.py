"""Hooks, endpoints, and deliveries."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import distinct_on

from services.chassis.db import Tx
from services.chassis.filtering import Field
from services.chassis.listing import Listing, Page
from services.scheduler.domain.webhook import (
    ENDPOINTS_MAX,
    Hook,
    UnknownHook,
    UnknownWebhookDelivery,
    UnknownWebhookEndpoint,
    WebhookDelivery,
    WebhookEndpoint,
)

HOOKS = Listing(
    {"create_time": Field(Hook.created_at), "hook_id": Field(Hook.hook_id)}, "create_time desc", "hook_id"
)
ENDPOINTS = Listing(
    {"create_time": Field(WebhookEndpoint.created_at), "endpoint_id": Field(WebhookEndpoint.endpoint_id)},
    "create_time desc",
    "endpoint_id",
)
DELIVERIES = Listing(
    {"create_time": Field(WebhookDelivery.created_at), "delivery_id": Field(WebhookDelivery.delivery_id)},
    "create_time desc",
    "delivery_id",
)


async def hook(tx: Tx, hook_id: UUID, *, lock: bool = False) -> Hook:
    """Raises UnknownHook."""
    row = await tx.get(Hook, hook_id, with_for_update=lock)
    if row is None:
        raise UnknownHook(hook_id=hook_id)
    return row


async def hook_page(tx: Tx, page: Page) -> tuple[Sequence[Hook], str]:
    """Rows, and the next page's token."""
    return page.cut((await tx.scalars(page.select(select(Hook)))).all())


async def endpoint(tx: Tx, endpoint_id: UUID, *, lock: bool = False) -> WebhookEndpoint:
    """Raises UnknownWebhookEndpoint."""
    row = await tx.get(WebhookEndpoint, endpoint_id, with_for_update=lock)
    if row is None:
        raise UnknownWebhookEndpoint(endpoint_id=endpoint_id)
    return row


async def endpoint_page(tx: Tx, page: Page) -> tuple[Sequence[WebhookEndpoint], str]:
    return page.cut((await tx.scalars(page.select(select(WebhookEndpoint)))).all())


async def endpoints(tx: Tx) -> Sequence[WebhookEndpoint]:
    """All of them."""
    return (await tx.scalars(select(WebhookEndpoint).limit(ENDPOINTS_MAX))).all()


async def delivery_page(tx: Tx, endpoint_id: UUID, page: Page) -> tuple[Sequence[WebhookDelivery], str]:
    wanted = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    return page.cut((await tx.scalars(page.select(wanted))).all())


async def delivery(tx: Tx, endpoint_id: UUID, delivery_id: UUID) -> WebhookDelivery:
    """Locked. Raises UnknownWebhookDelivery."""
    row = await tx.get(WebhookDelivery, delivery_id, with_for_update=True, populate_existing=True)
    if row is None or row.endpoint_id != endpoint_id:
        raise UnknownWebhookDelivery(delivery_id=delivery_id)
    return row


async def take_due(
    tx: Tx, now: datetime, lease_until: datetime, room: int, busy: Collection[UUID]
) -> Sequence[WebhookDelivery]:
    """Deliveries whose attempt begins now, one for each endpoint that is neither busy nor disabled; nobody
    else begins one until `lease_until`."""
    disabled = select(WebhookEndpoint.endpoint_id).where(WebhookEndpoint.disabled)
    first = (
        select(WebhookDelivery.delivery_id)
        .where(WebhookDelivery.due_at <= now, WebhookDelivery.endpoint_id.not_in(busy))
        .where(WebhookDelivery.endpoint_id.not_in(disabled))
        .ext(distinct_on(WebhookDelivery.endpoint_id))
        .order_by(WebhookDelivery.endpoint_id, WebhookDelivery.due_at)
        .limit(room)
    )
    wanted = (
        select(WebhookDelivery.delivery_id)
        .where(WebhookDelivery.delivery_id.in_(first), WebhookDelivery.due_at <= now)
        .with_for_update(skip_locked=True)
    )
    taken = update(WebhookDelivery).where(WebhookDelivery.delivery_id.in_(wanted))
    changed = taken.values(due_at=lease_until, attempts=WebhookDelivery.attempts + 1)
    return (await tx.scalars(changed.returning(WebhookDelivery))).all()
