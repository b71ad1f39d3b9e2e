"""The tree of categories, as deep as it is wide, and the attributes that it asks of products."""

import asyncio
import random

import grpc.aio
import pytest

from services.chassis.testing import reason
from tests.catalog.shop import Shop, list_price, new_id, new_sku, refused, variant
from weft.catalog.v1 import category_pb2 as pb
from weft.catalog.v1.content_pb2 import Attribute, VariantContent
from weft.catalog.v1.definition_pb2 import (
    AttributeDefinition as Definition,
    CategoryContent,
    ProductTypeContent,
)
from weft.catalog.v1.product_messages_pb2 import AddVariantRequest, UpdateProductRequest
from weft.catalog.v1.product_type_pb2 import DeleteProductTypeRequest, UpdateProductTypeRequest


async def get(shop: Shop, category_id: str) -> pb.GetCategoryResponse:
    return await shop.categories.GetCategory(pb.GetCategoryRequest(category_id=category_id))


async def test_a_chain_of_sixty_categories_knows_its_way(shop: Shop) -> None:
    ids = [""]
    for n in range(60):
        ids.append((await shop.category(f"Level {n}", ids[-1])).category_id)
    deepest = await get(shop, ids[-1])
    assert list(deepest.category.ancestor_ids) == ids[1:-1]
    assert [each.content.name for each in deepest.ancestors] == [f"Level {n}" for n in range(59)]
    moved = await shop.move(ids[30], "")
    assert (moved.parent_id, list(moved.ancestor_ids)) == ("", [])
    assert list((await get(shop, ids[-1])).category.ancestor_ids) == ids[30:-1]


async def test_one_name_stands_under_several_parents_and_twice_under_one(shop: Shop) -> None:
    one, two = await shop.category("One"), await shop.category("Two")
    for parent in (one, two, two):
        await shop.category("Accessories", parent.category_id)
    request = pb.ListCategoriesRequest(parent_id=two.category_id)
    found = await shop.categories.ListCategories(request)
    assert [each.content.name for each in found.categories] == ["Accessories", "Accessories"]


async def test_children_are_listed_by_position_and_name(shop: Shop) -> None:
    top = await shop.category("Top")
    for name, position in (("b", 1), ("c", 0), ("a", 1)):
        await shop.category(name, top.category_id, position=position)
    request = pb.ListCategoriesRequest(parent_id=top.category_id, page_size=1)
    seen = ""
    while True:
        page = await shop.categories.ListCategories(request)
        seen += "".join(each.content.name for each in page.categories)
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert seen == "cab"
    below = pb.ListCategoriesRequest(filter=f'ancestor_ids:"{top.category_id}"', order_by="name desc")
    assert [each.content.name for each in (await shop.categories.ListCategories(below)).categories] == [
        *"cba"
    ]


async def test_a_category_never_hangs_below_itself(shop: Shop) -> None:
    top = await shop.category("Top")
    child = await shop.category("Child", top.category_id)
    for parent in (top, child):
        async with refused("CATEGORY_CYCLE"):
            await shop.move(top.category_id, parent.category_id)
    async with refused("UNKNOWN_CATEGORY"):
        await shop.move(top.category_id, new_id())


async def test_moves_at_once_leave_a_tree(shop: Shop) -> None:
    nodes = [(await shop.category(f"Node {n}")).category_id for n in range(12)]
    chance = random.Random(7)
    moves = [shop.move(*chance.sample(nodes, 2)) for _ in range(64)]
    outcomes = await asyncio.gather(*moves, return_exceptions=True)
    refusals = {reason(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)}
    assert refusals <= {"CATEGORY_CYCLE"}
    categories = {node: (await get(shop, node)).category for node in nodes}
    for node, category in categories.items():
        way, parent = [], category.parent_id
        while parent:
            assert parent != node
            way.insert(0, parent)
            parent = categories[parent].parent_id
        assert list(category.ancestor_ids) == way


async def test_the_same_category_again_is_the_same(shop: Shop) -> None:
    request = pb.CreateCategoryRequest(category_id=new_id(), content=CategoryContent(name="Socks"))
    first = await shop.categories.CreateCategory(request, metadata=shop.staff)
    assert await shop.categories.CreateCategory(request, metadata=shop.staff) == first
    request.content.name = "Shoes"
    async with refused("CATEGORY_ID_REUSED"):
        await shop.categories.CreateCategory(request, metadata=shop.staff)


async def test_a_category_changes_upon_the_version_that_was_read(shop: Shop) -> None:
    made = await shop.category("Old")
    request = pb.UpdateCategoryRequest(
        category_id=made.category_id, expected_version=1, content=CategoryContent(name="New")
    )
    changed = (await shop.categories.UpdateCategory(request, metadata=shop.staff)).category
    assert (changed.version, changed.content.name) == (2, "New")
    request.content.name = "Newer"
    async with refused("VERSION_CONFLICT"):
        await shop.categories.UpdateCategory(request, metadata=shop.staff)
    async with refused("VERSION_CONFLICT"):
        await shop.move(made.category_id, (await shop.category()).category_id, expected=1)


async def test_what_is_in_use_is_not_deleted(shop: Shop) -> None:
    type_ = await shop.product_type()
    top = await shop.category("Top", product_type_id=type_.product_type_id)
    child = await shop.category("Child", top.category_id)
    product = await shop.create(
        category_ids=[child.category_id.upper()], product_type_id=type_.product_type_id
    )
    assert list(product.content.category_ids) == [child.category_id]

    async def delete(category: pb.Category) -> None:
        request = pb.DeleteCategoryRequest(category_id=category.category_id)
        await shop.categories.DeleteCategory(request, metadata=shop.staff)

    async def delete_type() -> None:
        request = DeleteProductTypeRequest(product_type_id=type_.product_type_id)
        await shop.types.DeleteProductType(request, metadata=shop.staff)

    for each in (top, child):
        async with refused("CATEGORY_IN_USE"):
            await delete(each)
    async with refused("PRODUCT_TYPE_IN_USE"):
        await delete_type()
    bare = UpdateProductRequest(product_id=product.product_id, content={"title": "Bare"})
    bare.update_mask.paths.append("*")
    await shop.products.UpdateProduct(bare, metadata=shop.staff)
    async with refused("PRODUCT_TYPE_IN_USE"):
        await delete_type()
    await delete(child)
    await delete(top)
    await delete_type()
    async with refused("UNKNOWN_CATEGORY"):
        await get(shop, top.category_id)
    async with refused("UNKNOWN_CATEGORY"):
        await delete(top)


async def test_a_product_and_the_end_of_its_category_exclude_each_other(shop: Shop) -> None:
    for _ in range(8):
        category = await shop.category()
        gone = pb.DeleteCategoryRequest(category_id=category.category_id)
        made, deleted = await asyncio.gather(
            shop.create(category_ids=[category.category_id]),
            shop.categories.DeleteCategory(gone, metadata=shop.staff),
            return_exceptions=True,
        )
        lost = [each for each in (made, deleted) if isinstance(each, grpc.aio.AioRpcError)]
        assert [reason(each) for each in lost] in (["UNKNOWN_CATEGORY"], ["CATEGORY_IN_USE"])


FULL = (
    Definition(key="material", kind=Definition.KIND_TEXT, required=True),
    Definition(key="length", kind=Definition.KIND_NUMBER, unit="cm", number_min="1", number_max="99.5"),
    Definition(key="organic", kind=Definition.KIND_BOOLEAN),
    Definition(key="season", kind=Definition.KIND_CHOICE, choices=["summer", "winter"]),
    Definition(key="box", kind=Definition.KIND_DIMENSIONS, unit="cm"),
    Definition(key="made", kind=Definition.KIND_DATE),
    Definition(
        key="size",
        kind=Definition.KIND_CHOICE,
        choices=["S", "M"],
        level=Definition.LEVEL_VARIANT,
        required=True,
    ),
)


async def test_attributes_of_each_kind_are_kept_as_they_came(shop: Shop) -> None:
    type_ = await shop.product_type(*FULL)
    attributes = [
        Attribute(key="material", text="Wool"),
        Attribute(key="length", number={"amount": "12.50", "unit": "cm"}),
        Attribute(key="organic", boolean=False),
        Attribute(key="season", choice="winter"),
        Attribute(key="box", dimensions={"length": "1", "width": "2.5", "height": "3"}),
        Attribute(key="made", date="2024-02-29"),
    ]
    sized = variant(attributes=[Attribute(key="size", choice="M")])
    made = await shop.on_sale(sized, product_type_id=type_.product_type_id, attributes=attributes)
    assert list(made.content.attributes) == attributes


@pytest.mark.parametrize(
    "attribute",
    [
        Attribute(key="colour", text="red"),
        Attribute(key="size", choice="M"),
        Attribute(key="material", boolean=True),
        Attribute(key="length", number={"amount": "0.5"}),
        Attribute(key="length", number={"amount": "99.51"}),
        Attribute(key="length", number={"amount": "5", "unit": "mm"}),
        Attribute(key="season", choice="spring"),
        Attribute(key="box", dimensions={"length": "1", "width": "1", "height": "1", "unit": "m"}),
        Attribute(key="made", date="2023-02-29"),
    ],
    ids=["unknown", "of variants", "kind", "small", "large", "unit", "choice", "dimensions", "day"],
)
async def test_an_attribute_that_its_type_does_not_ask_for_so_is_refused(
    shop: Shop, attribute: Attribute
) -> None:
    type_ = await shop.product_type(*FULL)
    async with refused("ATTRIBUTE_REFUSED"):
        await shop.create(product_type_id=type_.product_type_id, attributes=[attribute])


async def test_an_attribute_comes_once(shop: Shop) -> None:
    type_ = await shop.product_type(*FULL)
    twice = [Attribute(key="organic", boolean=True)] * 2
    async with refused("ATTRIBUTE_REFUSED"):
        await shop.create(product_type_id=type_.product_type_id, attributes=twice)


async def test_what_is_required_is_asked_for_before_the_sale_and_not_before(shop: Shop) -> None:
    type_ = await shop.product_type(*FULL)
    made = await shop.create(variant(), product_type_id=type_.product_type_id)
    async with refused("NOT_PUBLISHABLE"):
        await shop.publish(made)
    full = await shop.create(
        variant(attributes=[Attribute(key="size", choice="S")]),
        product_type_id=type_.product_type_id,
        attributes=[Attribute(key="material", text="Wool")],
    )
    await shop.publish(full)
    bare = AddVariantRequest(product_id=full.product_id, variant=VariantContent(sku=new_sku()))
    async with refused("NOT_PUBLISHABLE"):
        await shop.products.AddVariant(bare, metadata=shop.staff)


async def test_categories_ask_for_attributes_of_all_below_them(shop: Shop) -> None:
    type_ = await shop.product_type(Definition(key="energy", kind=Definition.KIND_TEXT, required=True))
    top = await shop.category("Devices", product_type_id=type_.product_type_id)
    leaf = await shop.category("Kettles", top.category_id)
    made = await shop.create(variant(), category_ids=[leaf.category_id])
    async with refused("NOT_PUBLISHABLE"):
        await shop.publish(made)
    energy = [Attribute(key="energy", text="A")]
    await shop.on_sale(category_ids=[leaf.category_id], attributes=energy)
    async with refused("ATTRIBUTE_REFUSED"):
        await shop.create(attributes=energy)
    other = await shop.product_type(Definition(key="energy", kind=Definition.KIND_NUMBER))
    async with refused("ATTRIBUTE_REFUSED"):
        await shop.create(category_ids=[leaf.category_id], product_type_id=other.product_type_id)


async def test_a_type_asks_for_more_and_products_stay_until_they_change(shop: Shop) -> None:
    type_ = await shop.product_type(FULL[2])
    made = await shop.on_sale(product_type_id=type_.product_type_id)
    content = ProductTypeContent(name="A type", attributes=[FULL[2], FULL[0]])
    request = UpdateProductTypeRequest(product_type_id=type_.product_type_id, content=content)
    changed = (await shop.types.UpdateProductType(request, metadata=shop.staff)).product_type
    assert changed.version == 2
    assert (await shop.set_price(made.variants[0].content.sku, list_price("5"))).version == made.version + 1
    async with refused("NOT_PUBLISHABLE"):
        await shop.update(made, title="New")


@pytest.mark.parametrize(
    ("definitions", "why"),
    [
        ([Definition(key="brand", kind=Definition.KIND_TEXT)], "DEFINITION_REFUSED"),
        ([FULL[2], FULL[2]], "DEFINITION_REFUSED"),
        ([Definition(key="organic", kind=Definition.KIND_TEXT)], "DEFINITION_REFUSED"),
        ([Definition(key="x", kind=Definition.KIND_TEXT, number_min="1")], "DEFINITION_REFUSED"),
        (
            [Definition(key="x", kind=Definition.KIND_NUMBER, number_min="2", number_max="1")],
            "DEFINITION_REFUSED",
        ),
        ([Definition(key="x", kind=Definition.KIND_CHOICE)], "MALFORMED"),
        ([Definition(key="x", kind=Definition.KIND_TEXT, unit="cm")], "MALFORMED"),
        ([Definition(key="Bad Key", kind=Definition.KIND_TEXT)], "MALFORMED"),
    ],
    ids=["reserved", "twice", "other kind", "bounds", "crossed", "no choices", "unit", "key"],
)
async def test_a_bad_definition_is_refused(shop: Shop, definitions: list[Definition], why: str) -> None:
    type_ = await shop.product_type(FULL[2])
    content = ProductTypeContent(name="A type", attributes=definitions)
    request = UpdateProductTypeRequest(product_type_id=type_.product_type_id, content=content)
    async with refused(why):
        await shop.types.UpdateProductType(request, metadata=shop.staff)
