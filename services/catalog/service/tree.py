"""Categories, one by one."""

from typing import Any
from uuid import UUID

from services.catalog import folding, projecting, reading
from services.catalog.domain.refusals import (
    CategoryCycle,
    CategoryIdReused,
    CategoryInUse,
    UnknownCategory,
    UnknownProductType,
)
from services.catalog.service.shared import Shared
from services.catalog.store import products, tree
from services.chassis import event_store
from services.chassis.db import AnyTx
from services.chassis.event_store import VersionConflict
from services.chassis.method import Call
from weft.catalog.v1 import category_pb2 as pb, events_pb2 as events
from weft.catalog.v1.definition_pb2 import CategoryContent


class TreeOf:
    """The part of CategoryService that is about one category, or a page of them."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._db = shared, shared.db

    async def CreateCategory(
        self, request: pb.CreateCategoryRequest, call: Call
    ) -> pb.CreateCategoryResponse:
        category_id, parent_id = canonical(request.category_id), canonical(request.parent_id)
        async with self._db.fast() as tx:
            await tree.lock(tx)
            known = await load(tx, category_id)
            if known is None:
                content = await _checked(tx, parent_id, request.content)
                await append(tx, category_id, 0, [created(category_id, parent_id, content)])
            elif not _same(known, parent_id, request.content):
                raise CategoryIdReused(category_id=category_id)
        return pb.CreateCategoryResponse(category=await self._read(category_id))

    async def GetCategory(self, request: pb.GetCategoryRequest, call: Call) -> pb.GetCategoryResponse:
        category = await self._read(request.category_id)
        ids = [UUID(each) for each in category.ancestor_ids]
        rows = await tree.categories(self._db, ids)
        return pb.GetCategoryResponse(
            category=category, ancestors=[to_pb(rows[each]) for each in ids if each in rows]
        )

    async def ListCategories(
        self, request: pb.ListCategoriesRequest, call: Call
    ) -> pb.ListCategoriesResponse:
        page = tree.CATEGORY_LISTING.page(request, self._shared.page_key)
        rows, token = page.cut(await tree.listed_categories(self._db, page, request.parent_id))
        return pb.ListCategoriesResponse(categories=map(to_pb, rows), next_page_token=token)

    async def UpdateCategory(
        self, request: pb.UpdateCategoryRequest, call: Call
    ) -> pb.UpdateCategoryResponse:
        category_id = canonical(request.category_id)
        async with self._db.fast() as tx:
            await tree.lock(tx)
            known = await _existing(tx, category_id)
            content = await _checked(tx, "", request.content)
            if known.content != content:
                _expect(known, request.expected_version)
                await append(tx, category_id, known.version, [updated(known, content)])
        return pb.UpdateCategoryResponse(category=await self._read(category_id))

    async def MoveCategory(self, request: pb.MoveCategoryRequest, call: Call) -> pb.MoveCategoryResponse:
        category_id, parent_id = canonical(request.category_id), canonical(request.parent_id)
        async with self._db.fast() as tx:
            await tree.lock(tx)
            known = await _existing(tx, category_id)
            if known.parent_id != parent_id:
                await check_parent(tx, category_id, parent_id)
                _expect(known, request.expected_version)
                await append(tx, category_id, known.version, [moved(known, parent_id)])
        return pb.MoveCategoryResponse(category=await self._read(category_id))

    async def DeleteCategory(
        self, request: pb.DeleteCategoryRequest, call: Call
    ) -> pb.DeleteCategoryResponse:
        category_id = canonical(request.category_id)
        async with self._db.fast() as tx:
            await tree.lock(tx)
            known = await _existing(tx, category_id)
            _expect(known, request.expected_version)
            if await tree.has_children(tx, UUID(category_id)):
                raise CategoryInUse(category_id=category_id, what="categories below it")
            if await products.uses_category(tx, UUID(category_id)):
                raise CategoryInUse(category_id=category_id, what="products")
            gone = events.CategoryDeleted(category_id=category_id, version=known.version + 1)
            await append(tx, category_id, known.version, [gone])
        return pb.DeleteCategoryResponse()

    async def _read(self, category_id: str) -> pb.Category:
        """Raises UnknownCategory."""
        rows = await tree.categories(self._db, [UUID(category_id)])
        if not rows:
            raise UnknownCategory(category_id=category_id)
        return to_pb(rows[UUID(category_id)])


def canonical(text: str) -> str:
    """A UUID written in one way; empty stays empty."""
    return str(UUID(text)) if text else ""


async def load(tx: AnyTx, category_id: str) -> pb.Category | None:
    """As its events have it; None when it never was. The tree is locked, so nobody appends meanwhile."""
    kind, snapshots = folding.CATEGORY, folding.CATEGORY_SNAPSHOTS
    state, version = await event_store.load(
        tx, kind, category_id, folding.fold_category, pb.Category(), snapshots
    )
    return state if version else None


async def _existing(tx: AnyTx, category_id: str) -> pb.Category:
    """Raises UnknownCategory, also of one that was deleted."""
    known = await load(tx, category_id)
    if known is None or not known.content.name:
        raise UnknownCategory(category_id=category_id)
    return known


def _same(known: pb.Category, parent_id: str, content: CategoryContent) -> bool:
    return known.parent_id == parent_id and known.content == canonical_content(content)


def canonical_content(content: CategoryContent) -> CategoryContent:
    made = CategoryContent()
    made.CopyFrom(content)
    made.product_type_id = canonical(content.product_type_id)
    return made


async def _checked(tx: AnyTx, parent_id: str, content: CategoryContent) -> CategoryContent:
    """The content as it is kept. Raises UnknownCategory, UnknownProductType for what is not there."""
    if parent_id and UUID(parent_id) not in await tree.named(tx, [UUID(parent_id)]):
        raise UnknownCategory(category_id=parent_id)
    made = canonical_content(content)
    if made.product_type_id and not await tree.types(tx, [UUID(made.product_type_id)]):
        raise UnknownProductType(product_type_id=made.product_type_id)
    return made


async def check_parent(tx: AnyTx, category_id: str, parent_id: str) -> None:
    """Raises UnknownCategory, CategoryCycle."""
    if not parent_id:
        return
    named = await tree.named(tx, [UUID(parent_id)])
    if UUID(parent_id) not in named:
        raise UnknownCategory(category_id=parent_id)
    if UUID(category_id) in named:
        raise CategoryCycle(category_id=category_id, parent_id=parent_id)


def _expect(known: pb.Category, expected: int) -> None:
    if expected not in (0, known.version):
        key, version = known.category_id, known.version
        raise VersionConflict(kind=folding.CATEGORY, key=key, version=version, expected=expected)


def created(category_id: str, parent_id: str, content: CategoryContent) -> events.CategoryCreated:
    return events.CategoryCreated(category_id=category_id, version=1, parent_id=parent_id, content=content)


def updated(known: pb.Category, content: CategoryContent, after: int = 0) -> events.CategoryUpdated:
    """`after` events that come before it in the same transaction."""
    version = known.version + 1 + after
    return events.CategoryUpdated(category_id=known.category_id, version=version, content=content)


def moved(known: pb.Category, parent_id: str) -> events.CategoryMoved:
    return events.CategoryMoved(
        category_id=known.category_id,
        version=known.version + 1,
        from_parent_id=known.parent_id,
        to_parent_id=parent_id,
    )


async def append(tx: AnyTx, category_id: str, version: int, happened: list[Any]) -> None:
    envelopes = await event_store.append_all(tx, folding.CATEGORY, {category_id: (version, happened)})
    await projecting.CATEGORIES.apply_all(list(zip(happened, envelopes, strict=True)), tx)


def to_pb(row: Any) -> pb.Category:
    return pb.Category(
        category_id=str(row["category_id"]),
        version=row["version"],
        parent_id=str(row["parent_id"] or ""),
        content=CategoryContent.FromString(row["payload"]),
        ancestor_ids=[str(each) for each in row["ancestor_ids"]],
        create_time=reading.stamp(row["create_time"]),
        update_time=reading.stamp(row["update_time"]),
    )
