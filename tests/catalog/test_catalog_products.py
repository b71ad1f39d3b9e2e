"""A product from its draft to its end: who sees it, what it may become, what its names lead to."""

import asyncio

import grpc.aio
import pytest

from services.chassis.testing import broken_fields, reason
from tests.catalog.shop import Shop, list_price, new_id, new_sku, refused, variant
from weft.catalog.v1 import product_messages_pb2 as pb
from weft.catalog.v1.content_pb2 import ProductContent, TaxCategory, VariantContent
from weft.catalog.v1.product_pb2 import GetProductBySlugRequest


async def test_a_product_is_a_draft_first_and_for_staff_only(shop: Shop) -> None:
    made = await shop.create(variant(), title="Quiet kettle")
    assert (made.state, made.version, made.content.slug) == (pb.PRODUCT_STATE_DRAFT, 2, "quiet-kettle")
    assert await shop.get(made.product_id) == made
    async with refused("UNKNOWN_PRODUCT"):
        await shop.get(made.product_id, shop.anyone)
    published = await shop.publish(made)
    assert published.state == pb.PRODUCT_STATE_ACTIVE
    assert await shop.get(made.product_id, shop.anyone) == published


async def test_the_same_creation_again_answers_the_product_as_it_is(shop: Shop) -> None:
    product_id, sku = new_id(), new_sku()
    made = await shop.create(variant(sku), product_id=product_id)
    changed = await shop.update(made, title="Other socks")
    assert await shop.create(variant(sku), product_id=product_id) == changed
    async with refused("PRODUCT_ID_REUSED"):
        await shop.create(variant(sku), product_id=product_id, title="Other socks")


async def test_64_creations_at_once_make_one_product(shop: Shop) -> None:
    product_id, sku = new_id(), new_sku()
    made = await asyncio.gather(*(shop.create(variant(sku), product_id=product_id) for _ in range(64)))
    assert len({each.SerializeToString(deterministic=True) for each in made}) == 1
    assert made[0].version == 2


async def test_of_64_products_that_want_one_sku_one_gets_it(shop: Shop) -> None:
    sku = new_sku()
    tries = [shop.create(variant(sku), title=f"Try {n}") for n in range(64)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    lost = [reason(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert lost == ["SKU_TAKEN"] * 63


async def test_a_change_says_which_version_it_was_decided_upon(shop: Shop) -> None:
    made = await shop.on_sale()
    changed = await shop.update(made, expected=made.version, description="Warm")
    assert (changed.version, changed.content.description) == (made.version + 1, "Warm")
    async with refused("VERSION_CONFLICT"):
        await shop.update(made, expected=made.version, description="Warmer")
    assert await shop.update(made, expected=made.version, description="Warm") == changed
    assert await shop.get(made.product_id) == changed


async def test_of_64_changes_to_one_version_one_wins(shop: Shop) -> None:
    made = await shop.create()
    tries = [shop.update(made, expected=1, title=f"Title {n}") for n in range(64)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    lost = [reason(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert lost == ["VERSION_CONFLICT"] * 63
    assert (await shop.get(made.product_id)).version == 2


async def test_an_update_changes_what_it_names_and_no_more(shop: Shop) -> None:
    made = await shop.create(title="A", description="B", brand="C")
    assert (await shop.update(made, brand="D")).content == ProductContent(
        title="A", description="B", brand="D", slug=made.content.slug
    )
    request = pb.UpdateProductRequest(product_id=made.product_id, content=ProductContent(title="E"))
    request.update_mask.paths[:] = ["*"]
    whole = (await shop.products.UpdateProduct(request, metadata=shop.staff)).product
    assert whole.content == ProductContent(title="E", slug=made.content.slug)
    request.content.title = ""
    async with refused("MALFORMED"):
        await shop.products.UpdateProduct(request, metadata=shop.staff)


async def test_a_slug_that_was_left_leads_to_the_product_still(shop: Shop) -> None:
    made = await shop.on_sale(title="Left slug", slug=f"a{new_sku()[4:]}")
    old = made.content.slug
    moved = await shop.update(made, slug=f"b{old}")
    for slug in (old, moved.content.slug):
        by_slug = await shop.products.GetProductBySlug(GetProductBySlugRequest(slug=slug))
        assert by_slug.product == moved
    async with refused("SLUG_TAKEN"):
        await shop.create(slug=old)
    assert (await shop.update(moved, slug=old)).content.slug == old
    async with refused("UNKNOWN_SLUG"):
        await shop.products.GetProductBySlug(GetProductBySlugRequest(slug="no-such"))


async def test_products_of_one_title_have_slugs_of_their_own(shop: Shop) -> None:
    title = f"Twin {new_sku()}"
    one, two = await shop.create(title=title), await shop.create(title=title)
    assert two.content.slug == f"{one.content.slug}-{two.product_id[:8]}"
    many = await asyncio.gather(*(shop.create(title=f"{title} x") for _ in range(16)))
    assert len({each.content.slug for each in many}) == 16
    nameless = await shop.create(title="\u0447\u0430\u0439")
    assert nameless.content.slug == f"product-{nameless.product_id[:8]}"


async def delete(shop: Shop, product: pb.Product) -> None:
    request = pb.DeleteProductRequest(product_id=product.product_id)
    await shop.products.DeleteProduct(request, metadata=shop.staff)


async def archive(shop: Shop, product: pb.Product) -> pb.Product:
    request = pb.ArchiveProductRequest(product_id=product.product_id)
    return (await shop.products.ArchiveProduct(request, metadata=shop.staff)).product


async def test_a_deleted_draft_gives_its_names_back(shop: Shop) -> None:
    sku, slug = new_sku(), f"s{new_sku()[4:]}"
    made = await shop.create(variant(sku), slug=slug)
    await delete(shop, made)
    async with refused("UNKNOWN_PRODUCT"):
        await shop.get(made.product_id)
    async with refused("UNKNOWN_PRODUCT"):
        await delete(shop, made)
    again = await shop.create(variant(sku), slug=slug)
    assert again.content.slug == slug
    async with refused("PRODUCT_GONE"):
        await shop.create(product_id=made.product_id)


async def test_a_product_that_was_for_sale_keeps_its_names_for_ever(shop: Shop) -> None:
    sku = new_sku()
    made = await shop.on_sale(variant(sku), slug=f"s{sku[4:]}")
    await archive(shop, made)
    await delete(shop, made)
    async with refused("SKU_TAKEN"):
        await shop.create(variant(sku))
    async with refused("SLUG_TAKEN"):
        await shop.create(slug=made.content.slug)
    assert not await shop.variants(sku)


@pytest.mark.parametrize(
    ("state", "verb"),
    [
        ("draft", "archive"),
        ("active", "delete"),
        *(("gone", verb) for verb in ("publish", "archive", "delete")),
    ],
    ids=str,
)
async def test_illegal_moves_are_refused(shop: Shop, state: str, verb: str) -> None:
    made = await shop.create(variant())
    if state == "active":
        await shop.publish(made)
    if state == "gone":
        await delete(shop, made)
    async with refused("UNKNOWN_PRODUCT" if state == "gone" else "ILLEGAL_TRANSITION"):
        await {"archive": archive, "delete": delete, "publish": Shop.publish}[verb](shop, made)


async def test_what_is_so_already_is_no_event(shop: Shop) -> None:
    made = await shop.on_sale(variant(new_sku(), list_price("5")))
    assert await shop.publish(made) == made
    assert await shop.set_price(made.variants[0].content.sku, list_price("5")) == made
    archived = await archive(shop, made)
    assert await archive(shop, made) == archived
    assert (await shop.publish(made)).first_publish_time == made.first_publish_time


async def test_a_product_without_variants_is_not_for_sale(shop: Shop) -> None:
    async with refused("NOT_PUBLISHABLE"):
        await shop.publish(await shop.create())
    made = await shop.on_sale()
    request = pb.RemoveVariantRequest(product_id=made.product_id, sku=made.variants[0].content.sku)
    async with refused("NOT_PUBLISHABLE"):
        await shop.products.RemoveVariant(request, metadata=shop.staff)


async def test_a_variant_comes_changes_and_goes(shop: Shop) -> None:
    made = await shop.create(title="Socks", tax_category=TaxCategory.TAX_CATEGORY_REDUCED)
    sku = new_sku()
    content = VariantContent(sku=sku, title="Red", weight_g=50, gtin="4006381333931")
    add = pb.AddVariantRequest(product_id=made.product_id, variant=content)
    added = (await shop.products.AddVariant(add, metadata=shop.staff)).product
    assert (await shop.products.AddVariant(add, metadata=shop.staff)).product == added
    add.variant.title = "Blue"
    async with refused("VARIANT_EXISTS"):
        await shop.products.AddVariant(add, metadata=shop.staff)
    change = pb.UpdateVariantRequest(product_id=made.product_id, variant=add.variant)
    await shop.products.UpdateVariant(change, metadata=shop.staff)
    (read,) = await shop.variants(sku)
    assert (read.title, read.weight_g, read.tax_category) == ("Socks, Blue", 50, 2)
    gone = pb.RemoveVariantRequest(product_id=made.product_id, sku=sku)
    await shop.products.RemoveVariant(gone, metadata=shop.staff)
    assert not await shop.variants(sku)
    async with refused("UNKNOWN_VARIANT"):
        await shop.products.RemoveVariant(gone, metadata=shop.staff)
    async with refused("UNKNOWN_VARIANT"):
        await shop.products.UpdateVariant(change, metadata=shop.staff)


async def test_a_gtin_has_its_check_digit(shop: Shop) -> None:
    async with refused("GTIN_REFUSED"):
        await shop.create(variant(gtin="4006381333932"))


async def test_a_sku_comes_once_in_a_product(shop: Shop) -> None:
    sku = new_sku()
    async with refused("SKU_REPEATED"):
        await shop.create(variant(sku), variant(sku))


async def test_a_refused_creation_leaves_nothing_behind(shop: Shop) -> None:
    taken, free, slug, product_id = new_sku(), new_sku(), f"s{new_sku()[4:]}", new_id()
    await shop.create(variant(taken))
    async with refused("SKU_TAKEN"):
        await shop.create(variant(free), variant(taken), slug=slug, product_id=product_id)
    made = await shop.create(variant(free), slug=slug, product_id=product_id)
    assert [each.content.sku for each in made.variants] == [free]


async def test_variants_are_read_in_the_order_asked_for_with_all_they_have(shop: Shop) -> None:
    top = await shop.category("Top")
    leaf = await shop.category("Leaf", top.category_id)
    one, two = new_sku(), new_sku()
    made = await shop.on_sale(
        variant(one, list_price("3")), variant(two, title="Two"), category_ids=[leaf.category_id]
    )
    found = await shop.variants(two, "no-such", one, two, metadata=shop.anyone)
    assert [each.sku for each in found] == [two, one]
    assert list(found[0].category_ids) == [leaf.category_id, top.category_id]
    assert (found[1].product_id, found[1].product_version) == (made.product_id, made.version)
    assert list(found[1].prices) == [list_price("3")]
    assert not found[1].HasField("available")
    assert found[1].tax_category == TaxCategory.TAX_CATEGORY_STANDARD


async def test_variants_of_a_draft_are_for_staff_and_services(shop: Shop) -> None:
    sku = new_sku()
    await shop.create(variant(sku))
    assert not await shop.variants(sku, metadata=shop.anyone)
    assert not await shop.variants(sku, metadata=shop.lab.bearer(scope="catalog.prices.write"))
    assert len(await shop.variants(sku, metadata=shop.staff)) == 1
    assert len(await shop.variants(sku)) == 1


async def test_only_staff_changes_products(shop: Shop) -> None:
    request = pb.CreateProductRequest(product_id=new_id(), content=ProductContent(title="X"))
    async with refused("SIGN_IN_REQUIRED"):
        await shop.products.CreateProduct(request)
    async with refused("NOT_PERMITTED"):
        await shop.products.CreateProduct(request, metadata=shop.lab.bearer(scope="catalog.products.read"))


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"title": ""}, ""),
        ({"title": "x" * 201}, "content.title"),
        ({"title": "nul\0"}, "content.title"),
        ({"title": "a\nb"}, "content.title"),
        ({"description": "x" * 20_001}, "content.description"),
        ({"slug": "Not A Slug"}, "content.slug"),
        ({"category_ids": ["x"]}, "content.category_ids[0]"),
        ({"category_ids": [new_id()] * 21}, "content.category_ids"),
        ({"media": [{"url": "javascript:alert(1)", "kind": 1}]}, "content.media[0].url"),
        ({"tax_category": 99}, "content.tax_category"),
    ],
    ids=["empty", "long", "nul", "line break", "10 MB", "slug", "id", "many", "url", "enum"],
)
async def test_bad_content_is_refused_by_the_fields_name(
    shop: Shop, content: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.create(**{"title": "Fine", **content})  # type: ignore[arg-type]
    assert reason(caught.value) == "MALFORMED"
    assert field in broken_fields(caught.value)


@pytest.mark.parametrize("sku", ["", " x", "-x", "a b", "x" * 65, "\u0441\u043a\u0443", "a\n"], ids=range(7))
async def test_a_sku_is_made_of_plain_signs(shop: Shop, sku: str) -> None:
    made = pb.NewVariant(content=VariantContent(sku=sku))
    async with refused("MALFORMED"):
        await shop.create(made)


async def test_products_are_listed_by_state_category_and_sku(shop: Shop) -> None:
    category = await shop.category()
    draft = await shop.create(title="D", category_ids=[category.category_id])
    sold = await shop.on_sale(title="S", category_ids=[category.category_id])

    async def listed(condition: str) -> list[str]:
        wanted = f'category_ids:"{category.category_id}" AND {condition}'
        request = pb.ListProductsRequest(filter=wanted, order_by="title", page_size=1)
        seen = []
        while True:
            page = await shop.products.ListProducts(request, metadata=shop.staff)
            seen += [each.product_id for each in page.products]
            request.page_token = page.next_page_token
            if not request.page_token:
                return seen

    assert await listed("state = DRAFT") == [draft.product_id]
    assert await listed(f'skus:"{sold.variants[0].content.sku}"') == [sold.product_id]
    assert await listed("create_time > 2020-01-01T00:00:00Z") == [draft.product_id, sold.product_id]
