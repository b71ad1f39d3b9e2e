"""Rows of products, taken in by the hundred: each alone, all of a hundred in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask

from services.catalog import deciding, folding
from services.catalog.deciding import Draft, canonical
from services.catalog.domain.lifecycle import State
from services.catalog.domain.refusals import ProductGone
from services.catalog.store import claims, tree
from services.catalog.tallying import CREATED, UNCHANGED, UPDATED, Numbered, Outcome, Tally
from services.catalog.writing import Writing, surroundings, take_slugs
from services.chassis import event_store
from services.chassis.db import ATTEMPTS_MAX, AnyTx, Conflict
from services.chassis.errors import Refusal
from services.chassis.masks import apply_mask
from services.chassis.rpc import check
from weft.catalog.v1.content_pb2 import ProductContent, VariantContent
from weft.catalog.v1.product_messages_pb2 import CreateProductRequest, Product
from weft.catalog.v1.transfer_pb2 import ProductRow

ROWS_MAX = 200  # Of one transaction: some tens of milliseconds; what a crash repeats.
BYTES_MAX = 1024 * 1024  # Of one transaction, so that large rows come in small numbers.
SUBJECT_CHARS_MAX = 64  # Of what a report names a row by; it may be anything.


@dataclass(frozen=True, slots=True)
class Told:
    """What a row speaks of: fields, and keys of attributes. The rest stays as it is."""

    content: frozenset[str]
    attributes: frozenset[str]
    variant: frozenset[str]
    variant_attributes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A row, or why it could not be read."""

    at: Numbered
    request: CreateProductRequest | Refusal
    state: State | None = None  # What it shall be; None: what it is.
    told: Told | None = None  # What it speaks of; None: all.


def incoming(number: int, row: ProductRow, line: int = 0, told: Told | None = None) -> Incoming:
    """With the contract's rules checked."""
    subject = row.product_id or next((each.content.sku for each in row.variants), "")
    at = Numbered(number, line, subject[:SUBJECT_CHARS_MAX].replace("\0", ""))
    request = CreateProductRequest(product_id=row.product_id, content=row.content, variants=row.variants)
    try:
        check(request)
    except Refusal as refusal:
        return Incoming(at, refusal)
    return Incoming(at, request, folding.BY_STATE.get(row.state), told)


class ProductImport:
    """One stream of rows. What was committed stays, and can be gone on from."""

    def __init__(self, writing: Writing, tally: Tally) -> None:
        self._writing, self.tally = writing, tally
        self._waiting: list[Incoming] = []
        self._bytes = 0

    async def take(self, row: Incoming) -> None:
        if row.at.number < self.tally.rows_done:
            return
        self._waiting.append(row)
        self._bytes += 0 if isinstance(row.request, Refusal) else row.request.ByteSize()
        if len(self._waiting) >= ROWS_MAX or self._bytes >= BYTES_MAX:
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits. A race that was lost is run again: nothing of it was written."""
        rows, self._waiting, self._bytes = self._waiting, [], 0
        for attempt in range(ATTEMPTS_MAX if rows else 0):
            try:
                self.tally = await self._write(rows)
            except Conflict:
                if attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                return

    async def _write(self, rows: Sequence[Incoming]) -> Tally:
        async with self._writing.db.fast() as tx:
            self.tally.update_time = self._writing.db.clock.now()
            await tree.share(tx)
            await self.tally.lock(tx)
            drafts = await self._drafts(tx, rows)
            slugs = await _slugs(tx, rows, drafts)
            outcomes = [(row, _outcome(row, drafts, slugs)) for row in rows]
            changed = [draft for draft in drafts.values() if draft.events]
            refused = await self._writing.write(tx, changed)
            lost = {changed[n].product_id: refusal for n, refusal in refused.items()}
            written = {draft.product_id for draft in changed} - lost.keys()
            await claims.free(tx, slugs=[slug for each, slug in slugs.items() if each not in written])
            said = [(row.at, _refusal(row, lost) or outcome) for row, outcome in outcomes]
            return await self.tally.keep(tx, said)

    async def _drafts(self, tx: AnyTx, rows: Sequence[Incoming]) -> dict[UUID, Draft]:
        """The products of the rows, locked."""
        requests = [row.request for row in rows if not isinstance(row.request, Refusal)]
        keys = list(dict.fromkeys(str(UUID(request.product_id)) for request in requests))
        await event_store.lock(tx, folding.PRODUCT, keys)
        kind, kept = folding.PRODUCT, folding.PRODUCT_SNAPSHOTS
        states = await event_store.load_all(tx, kind, keys, folding.fold_product, Product, kept)
        known = [product.content for product, _ in states.values()]
        around = await surroundings(tx, [*known, *(request.content for request in requests)])
        now, drafts = self._writing.db.clock.now(), {}
        for key, (product, _) in states.items():
            product.product_id = key
            drafts[UUID(key)] = Draft(product, around, now)
        return drafts


def _refusal(row: Incoming, lost: dict[UUID, Refusal]) -> Refusal | None:
    """Why its product was not written."""
    return None if isinstance(row.request, Refusal) else lost.get(UUID(row.request.product_id))


async def _slugs(tx: AnyTx, rows: Sequence[Incoming], drafts: dict[UUID, Draft]) -> dict[UUID, str]:
    """For new products whose rows name none."""
    untitled: dict[UUID, str] = {}
    for row in rows:
        if isinstance(row.request, Refusal) or row.request.content.slug:
            continue
        product_id = UUID(row.request.product_id)
        if drafts[product_id].state is State.NONE:
            untitled.setdefault(product_id, row.request.content.title)
    return await take_slugs(tx, untitled) if untitled else {}


def _outcome(row: Incoming, drafts: dict[UUID, Draft], slugs: dict[UUID, str]) -> Outcome:
    """Decides upon a row; a refused one leaves its draft as it was."""
    if isinstance(row.request, Refusal):
        return row.request
    draft = drafts[UUID(row.request.product_id)]
    before, happened, was = Product(), len(draft.events), draft.state
    before.CopyFrom(draft.product)
    try:
        _decide(draft, row, row.request, slugs)
        draft.check()
    except Refusal as refusal:
        draft.product = before
        del draft.events[happened:]
        return refusal
    if was is State.NONE:
        return CREATED
    return UPDATED if len(draft.events) > happened else UNCHANGED


def _decide(draft: Draft, row: Incoming, request: CreateProductRequest, slugs: dict[UUID, str]) -> None:
    content = canonical(request.content)
    if draft.state is State.GONE:
        raise ProductGone(product_id=request.product_id)
    if draft.state is State.NONE:
        content.slug = content.slug or slugs[draft.product_id]
        deciding.create(draft, content, deciding.digest_of(request))
        deciding.add_new(draft, request.variants)
    else:
        old = draft.product.content
        deciding.update(draft, _overlaid(old, content, row.told) if row.told else content)
        for variant in request.variants:
            known = folding.variant_of(draft.product, variant.content.sku)
            if known and row.told:
                _overlay_variant(known.content, variant.content, row.told)
            deciding.put_variant(draft, variant)
    for to in _way(draft.state, row.state):
        deciding.become(draft, to)


def _overlaid(old: ProductContent, new: ProductContent, told: Told) -> ProductContent:
    made = ProductContent()
    made.CopyFrom(old)
    apply_mask(made, new, FieldMask(paths=told.content), told.content)
    _overlay_attributes(made, old, new, told.attributes)
    return made


def _overlay_variant(old: VariantContent, new: VariantContent, told: Told) -> None:
    """Fills in what `new` does not speak of."""
    made = VariantContent()
    made.CopyFrom(old)
    apply_mask(made, new, FieldMask(paths=told.variant), told.variant)
    _overlay_attributes(made, old, new, told.variant_attributes)
    new.CopyFrom(made)


def _overlay_attributes(made: Any, old: Any, new: Any, keys: frozenset[str]) -> None:
    kept = [each for each in old.attributes if each.key not in keys]
    came = list(new.attributes)
    made.ClearField("attributes")
    made.attributes.extend(kept + came)


def _way(state: State, to: State | None) -> list[State]:
    """A draft is archived by way of being for sale, so that what was exported can be taken in."""
    if to is None or to is state:
        return []
    return [State.ACTIVE, to] if (state, to) == (State.DRAFT, State.ARCHIVED) else [to]
