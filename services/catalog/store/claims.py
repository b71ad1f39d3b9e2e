"""Names that belong to one product: skus and slugs, decided by their primary keys."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.chassis.db import AnyTx, Database, execute, fetch

# In one order, so that two who claim several do not wait for each other in a circle.
CLAIM_SKUS = """
insert into sku (sku, product_id)
select sku, product_id from unnest($1::text[], $2::uuid[]) as new (sku, product_id) order by sku
on conflict do nothing returning sku
"""
SKU_OWNERS = "select sku, product_id from sku where sku = any($1::text[])"
CLAIM_SLUGS = """
insert into slug (slug, product_id)
select slug, product_id from unnest($1::text[], $2::uuid[]) as new (slug, product_id) order by slug
on conflict do nothing returning slug
"""
SLUG_OWNERS = "select slug, product_id from slug where slug = any($1::text[])"
FREE_SKUS = "delete from sku where sku = any($1::text[])"
FREE_SLUGS = "delete from slug where slug = any($1::text[])"
FREE_ALL_SKUS = "delete from sku where product_id = $1"
FREE_ALL_SLUGS = "delete from slug where product_id = $1"


async def claim_skus(tx: AnyTx, wanted: Mapping[str, UUID]) -> tuple[set[str], dict[str, UUID]]:
    """Takes those that are free. Returns which were, and the owner of each."""
    if not wanted:
        return set(), {}
    taken = await fetch(tx, CLAIM_SKUS, list(wanted), list(wanted.values()))
    owners = await fetch(tx, SKU_OWNERS, list(wanted))
    return {row["sku"] for row in taken}, {row["sku"]: row["product_id"] for row in owners}


async def claim_slugs(tx: AnyTx, wanted: Mapping[str, UUID]) -> tuple[set[str], dict[str, UUID]]:
    """As `claim_skus`."""
    if not wanted:
        return set(), {}
    taken = await fetch(tx, CLAIM_SLUGS, list(wanted), list(wanted.values()))
    owners = await fetch(tx, SLUG_OWNERS, list(wanted))
    return {row["slug"] for row in taken}, {row["slug"]: row["product_id"] for row in owners}


async def owners_of_skus(db: Database, skus: Sequence[str]) -> dict[str, UUID]:
    return {row["sku"]: row["product_id"] for row in await db.fetch(SKU_OWNERS, list(skus))}


async def free(tx: AnyTx, skus: Sequence[str] = (), slugs: Sequence[str] = ()) -> None:
    """Gives names back."""
    if skus:
        await execute(tx, FREE_SKUS, list(skus))
    if slugs:
        await execute(tx, FREE_SLUGS, list(slugs))


async def free_all(tx: AnyTx, product_id: UUID) -> None:
    """Gives back all names of a product."""
    await execute(tx, FREE_ALL_SKUS, product_id)
    await execute(tx, FREE_ALL_SLUGS, product_id)
