"""How a decision becomes true: locks, names, events and what is read, in one transaction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from services.catalog import folding, projecting, reading
from services.catalog.deciding import Draft, Surroundings
from services.catalog.domain.lifecycle import State
from services.catalog.domain.refusals import SkuTaken, SlugTaken, UnknownProduct
from services.catalog.domain.words import marked_slug, slug_of
from services.catalog.store import claims, stock, tree
from services.chassis import event_store
from services.chassis.db import AnyTx, Database
from services.chassis.errors import Refusal
from services.chassis.event_store import VersionConflict
from weft.catalog.v1 import events_pb2 as events
from weft.catalog.v1.content_pb2 import ProductContent
from weft.catalog.v1.definition_pb2 import ProductTypeContent
from weft.catalog.v1.product_messages_pb2 import Product

Decision = Callable[[Draft], None]


@dataclass
class Names:
    """Names that drafts ask for, and what they give back."""

    skus: dict[str, UUID] = field(default_factory=dict)
    slugs: dict[str, UUID] = field(default_factory=dict)
    freed: list[str] = field(default_factory=list)
    gone: list[UUID] = field(default_factory=list)

    def note(self, draft: Draft) -> None:
        for event in draft.events:
            if isinstance(event, events.VariantAdded):
                self.skus.setdefault(event.variant.sku, draft.product_id)
            elif isinstance(event, events.ProductCreated | events.ProductUpdated):
                self.slugs.setdefault(event.content.slug, draft.product_id)
            elif isinstance(event, events.VariantRemoved) and not draft.ever_published:
                self.freed.append(event.sku)
            elif isinstance(event, events.ProductDeleted):
                self.gone.append(draft.product_id)


class Writing:
    """Changes products; each call is one transaction, unless it is given one."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def change(
        self,
        product_id: UUID,
        expected_version: int,
        decide: Decision,
        naming: ProductContent | None = None,
    ) -> Product:
        """The product after `decide`; `naming` is content that may name other categories and types.

        Raises UnknownProduct, VersionConflict, and what `decide` raises. What changes nothing conflicts
        with nothing.
        """
        async with self.db.fast() as tx:
            draft = await self.draft(tx, product_id, naming)
            if draft.state is State.NONE or draft.state is State.GONE:
                raise UnknownProduct(product_id=product_id)
            published = draft.ever_published
            decide(draft)
            if draft.events and expected_version not in (0, draft.version):
                raise VersionConflict(
                    kind=folding.PRODUCT, key=product_id, version=draft.version, expected=expected_version
                )
            draft.check()
            await self.write_one(tx, draft, freeing=not published)
        return draft.product

    async def draft(self, tx: AnyTx, product_id: UUID, naming: ProductContent | None = None) -> Draft:
        """The product, locked, and all that it and `naming` name."""
        await tree.share(tx)
        key = str(product_id)
        await event_store.lock(tx, folding.PRODUCT, [key])
        product, _ = await event_store.load(
            tx, folding.PRODUCT, key, folding.fold_product, Product(), folding.PRODUCT_SNAPSHOTS
        )
        product.product_id = key
        contents = [product.content, *([naming] if naming is not None else [])]
        return Draft(product, await surroundings(tx, contents), self.db.clock.now())

    async def write_one(self, tx: AnyTx, draft: Draft, *, freeing: bool = False) -> None:
        """Raises SkuTaken, SlugTaken. `freeing`: the product was never published, so its names are free."""
        refused = await self.write(tx, [draft], freeing={draft.product_id} if freeing else set())
        for refusal in refused.values():
            raise refusal

    async def write(
        self, tx: AnyTx, drafts: Sequence[Draft], freeing: Iterable[UUID] = ()
    ) -> dict[int, Refusal]:
        """Writes what was decided. Returns the refusals of drafts that want a name of another, by place."""
        refused = await _settle_names(tx, drafts, set(freeing))
        kept = [draft for n, draft in enumerate(drafts) if n not in refused and draft.events]
        if not kept:
            return refused
        changes = {str(draft.product_id): (draft.version, draft.events) for draft in kept}
        envelopes = await event_store.append_all(tx, folding.PRODUCT, changes, kept[0].at)
        happened = [event for draft in kept for event in draft.events]
        await projecting.PRODUCTS.apply_all(list(zip(happened, envelopes, strict=True)), tx)
        await _note_stock(tx, kept)
        return refused


async def _settle_names(tx: AnyTx, drafts: Sequence[Draft], freeing: set[UUID]) -> dict[int, Refusal]:
    """Takes and gives back names. Of two drafts that want one, the first gets it."""
    names = Names()
    for draft in drafts:
        names.note(draft)
    new_slugs, slug_owners = await claims.claim_slugs(tx, names.slugs)
    new_skus, sku_owners = await claims.claim_skus(tx, names.skus)
    refused: dict[int, Refusal] = {}
    for n, draft in enumerate(drafts):
        if refusal := _taken(draft, slug_owners, sku_owners):
            refused[n] = refusal
    lost = {drafts[n].product_id for n in refused}
    await claims.free(
        tx,
        [sku for sku in new_skus if names.skus[sku] in lost] + names.freed,
        [slug for slug in new_slugs if names.slugs[slug] in lost],
    )
    for product_id in names.gone:
        if product_id in freeing:
            await claims.free_all(tx, product_id)
    return refused


def _taken(draft: Draft, slugs: Mapping[str, UUID], skus: Mapping[str, UUID]) -> Refusal | None:
    for event in draft.events:
        if isinstance(event, events.VariantAdded):
            owner = skus[event.variant.sku]
            if owner != draft.product_id:
                return SkuTaken(sku=event.variant.sku, product_id=owner)
        elif isinstance(event, events.ProductCreated | events.ProductUpdated):
            owner = slugs[event.content.slug]
            if owner != draft.product_id:
                return SlugTaken(slug=event.content.slug, product_id=owner)
    return None


async def _note_stock(tx: AnyTx, drafts: Sequence[Draft]) -> None:
    """Products whose skus are others are in stock or not. The last thing before the commit."""
    added = [draft.product_id for draft in drafts if _has(draft, events.VariantAdded)]
    if added:
        await stock.refresh_new(tx, added)
    for draft in drafts:
        if _has(draft, events.VariantRemoved, events.ProductDeleted):
            await stock.refresh(tx, draft.product_id)


def _has(draft: Draft, *kinds: type) -> bool:
    return any(isinstance(event, kinds) for event in draft.events)


async def surroundings(tx: AnyTx, contents: Iterable[ProductContent]) -> Surroundings:
    """What the contents name, of what is there; `tree.share` keeps it so."""
    contents = list(contents)
    categories = {UUID(each) for content in contents for each in content.category_ids}
    named = await tree.named(tx, categories) if categories else {}
    types = {UUID(content.product_type_id) for content in contents if content.product_type_id}
    types |= {each.product_type_id for each in named.values() if each.product_type_id}
    payloads = await tree.types(tx, types) if types else {}
    definitions = {
        type_id: reading.definitions(ProductTypeContent.FromString(payload))
        for type_id, payload in payloads.items()
    }
    return Surroundings(named, definitions)


async def take_slugs(tx: AnyTx, untitled: Mapping[UUID, str]) -> dict[UUID, str]:
    """Claims a slug for each new product that has none, from its title: `untitled` is titles by id.

    Who does not use it gives it back by `claims.free`.
    """
    wanted: dict[str, UUID] = {}
    first = {product_id: slug_of(title, str(product_id)) for product_id, title in untitled.items()}
    for product_id, slug in first.items():
        wanted.setdefault(slug, product_id)
    _, owners = await claims.claim_slugs(tx, wanted)
    return {
        product_id: slug if owners[slug] == product_id else marked_slug(slug, str(product_id))
        for product_id, slug in first.items()
    }
