"""Orders are found by what they are and by words, page by page, and can be listed anew."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.chassis.projections import rebuild
from services.chassis.testing import until
from services.order.view import SUMMARIES
from tests.order.shop import ACT, Shop, refused, standing, wanted
from weft.identity.v1.events_pb2 import UserDeleted
from weft.order.v1 import order_lists_pb2 as lists, order_pb2 as pb
from weft.order.v1.resource_pb2 import Address, Contact, OrderSummary


async def listed(store: Shop, **asked: object) -> list[OrderSummary]:
    """All pages."""
    found: list[OrderSummary] = []
    request = lists.ListOrdersRequest(**asked)  # type: ignore[arg-type]
    while True:
        answer = await store.orders.ListOrders(request, metadata=store.staff)
        found += answer.orders
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def searched(store: Shop, text: str, **asked: object) -> list[str]:
    request = lists.SearchOrdersRequest(text=text, **asked)  # type: ignore[arg-type]
    answer = await store.orders.SearchOrders(request, metadata=store.staff)
    return [order.order_id for order in answer.orders]


async def test_orders_are_listed_by_customer_state_time_and_amount(store: Shop) -> None:
    ann = str(uuid4())
    small = await store.order(("needle", 1), customer_id=ann, reference="PO-1")
    large = await store.order(("wool", 5), customer_id=ann)
    open_ = await store.order(("wool", 1), customer_id=ann, token=ACT)
    await store.order(("wool", 1))

    async def ids(filter: str = "", **rest: object) -> list[str]:
        found = await listed(store, customer_id=ann, filter=filter, page_size=2, **rest)
        return [each.order_id for each in found]

    assert await ids() == [open_.order_id, large.order_id, small.order_id]
    assert await ids(order_by="gross_minor") == [small.order_id, open_.order_id, large.order_id]
    assert await ids("state = AWAITING_PAYMENT") == [open_.order_id]
    assert await ids("gross_minor >= 12000 AND state = CONFIRMED") == [large.order_id]
    assert await ids('reference = "PO-1"') == [small.order_id]
    since = (large.create_time.ToDatetime(tzinfo=UTC) + timedelta(microseconds=1)).isoformat()
    assert await ids(f'create_time >= "{since}"') == [open_.order_id]
    assert await ids("imported = true OR country = FR") == []
    [first] = await listed(store, filter='reference = "PO-1"')
    assert (first.gross_total.amount_minor, first.lines, first.customer_id) == (3_000, 1, ann)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"filter": "colour = red"}, "BAD_FILTER"),
        ({"filter": "state = LOST"}, "BAD_FILTER"),
        ({"order_by": "state"}, "BAD_ORDER"),
        ({"page_token": "x"}, "BAD_PAGE_TOKEN"),
        ({"page_size": -1}, "MALFORMED"),
    ],
    ids=["field", "state", "order", "token", "size"],
)
async def test_a_list_that_cannot_be_is_refused(store: Shop, asked: dict[str, object], reason: str) -> None:
    call = store.orders.ListOrders(lists.ListOrdersRequest(**asked), metadata=store.staff)  # type: ignore[arg-type]
    assert await refused(call) == reason


async def test_orders_are_found_by_words_of_what_and_whom_they_are_for(store: Shop) -> None:
    zoe = Contact(
        name="Zoë Løvenskiold", email="zoe@løven.example", shipping=Address(city="Ærø", country="DK")
    )
    order = await store.order(("wool", 1), contact=zoe, reference="Bestellung 77/4")
    await store.order(("wool", 1), contact=Contact(name="Someone Else"))
    for text in ("zoe", "Zoë løvens*", "77/4 merino", "ZOE@LØVEN.EXAMPLE", "ærø"):
        assert await searched(store, text) == [order.order_id], text
    assert await searched(store, "zoe needle") == []
    assert await searched(store, "zoe", filter="state = CANCELLED") == []
    asked = lists.SearchOrdersRequest(text="!!")
    assert await refused(store.orders.SearchOrders(asked, metadata=store.staff)) == "NO_WORDS"
    hostile = lists.SearchOrdersRequest(text="'); drop table event; -- & | ! <-> :*")
    assert list((await store.orders.SearchOrders(hostile, metadata=store.staff)).orders) == []


async def test_a_search_goes_on_page_by_page(store: Shop) -> None:
    word = f"lot{uuid4().hex}"
    ids = [(await store.order(("needle", 1), reference=word)).order_id for _ in range(5)]
    found: list[str] = []
    request = lists.SearchOrdersRequest(text=word, page_size=2)
    while True:
        answer = await store.orders.SearchOrders(request, metadata=store.staff)
        found += [order.order_id for order in answer.orders]
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            break
    assert found == ids[::-1]


async def test_a_person_who_is_gone_is_forgotten_and_the_order_stays(store: Shop) -> None:
    ann = str(uuid4())
    contact = Contact(name="Ann Vanishing", email="ann@vanish.example")
    own = await store.order(("wool", 1), customer_id=ann, contact=contact)
    guest = await store.order(("wool", 1), contact=contact)
    assert len(await searched(store, "vanishing")) == 2
    await store.lab.announce(UserDeleted(user_id=ann))

    async def forgotten() -> bool:
        return not (await store.get(own.order_id)).HasField("contact")

    await until(forgotten)
    for _ in range(2):
        erase = pb.EraseOrderContactRequest(order_id=guest.order_id)
        await store.orders.EraseOrderContact(erase, metadata=store.staff)
    assert await searched(store, "vanishing") == []
    assert own.order_id in await searched(store, "merino")
    db = store.lab.db("order")
    for table in ("order_detail", "event", "saga", "saga_step", "order_summary"):
        text = await db.fetchval(f"select coalesce(string_agg(t::text, ' '), '') from {table} t")
        assert "vanish" not in text.lower(), table
    assert (await store.told(guest.order_id)).count("OrderContactErased") == 1


async def test_the_list_made_anew_is_the_list_as_it_was(store: Shop) -> None:
    orders = [await store.order(("wool", n + 1)) for n in range(3)]
    await store.cancel(orders[0].order_id)
    db = store.lab.db("order")
    sql = "select coalesce(json_agg(t order by order_id)::text, '') from order_summary t"

    async def settled() -> bool:
        found = [await store.get(each.order_id) for each in orders]
        return all(each.paid.captured.amount_minor for each in found)

    await until(settled)
    before = await db.fetchval(sql)
    writing = asyncio.gather(*(store.order(("needle", 1)) for _ in range(10)))
    await rebuild(db, SUMMARIES)
    await writing
    ids = [UUID(each.order_id) for each in orders]
    again = "select state, refunded_minor from order_summary where order_id = $1"
    first = await db.fetchrow(again, ids[0])
    assert (first["state"], first["refunded_minor"]) == ("CANCELLED", 12_000)
    known = await db.fetchval("select count(*) from order_summary")
    assert known == await db.fetchval("select count(*) from event where type = 'weft.order.v1.OrderCreated'")
    now = await db.fetchval(
        "select coalesce(json_agg(t order by order_id)::text, '') from order_summary t "
        "where created_at <= (select created_at from order_summary where order_id = $1)",
        ids[-1],
    )
    assert now == before


async def test_history_tells_events_and_steps_in_their_order(store: Shop) -> None:
    order = await store.order(("wool", 1))
    await store.cancel(order.order_id)
    entries = [(entry.what, entry.outcome) for entry in await store.history(order.order_id)]
    assert entries[0] == ("OrderCreated", "")
    assert ("checkout.reserve", "DONE") in entries
    assert entries.index(("checkout.authorise", "DONE")) < entries.index(("checkout.authorise", "UNDONE"))
    assert ("OrderCancelled", "") in entries
    unknown = lists.GetOrderHistoryRequest(order_id=str(uuid4()))
    assert await refused(store.orders.GetOrderHistory(unknown, metadata=store.staff)) == "UNKNOWN_ORDER"


async def test_a_watcher_misses_nothing_and_goes_on_where_it_was(store: Shop) -> None:
    request = wanted(("wool", 1))
    seen: list[tuple[str, str]] = []

    async def watch(cursor: str, enough: str) -> str:
        stream = store.orders.WatchOrders(
            lists.WatchOrdersRequest(order_id=request.order_id, cursor=cursor), metadata=store.staff
        )
        await stream.initial_metadata()
        ready.set()
        async for message in stream:
            if message.event:
                seen.append((message.event, message.cursor))
            if message.event == enough:
                stream.cancel()
                return str(message.cursor)
        raise AssertionError("the stream ended")

    ready = asyncio.Event()
    first = asyncio.create_task(watch("", "OrderConfirmed"))
    await ready.wait()
    await store.orders.CreateOrder(request, metadata=store.staff)
    cursor = await asyncio.wait_for(first, 10)
    await store.cancel(request.order_id)
    await asyncio.wait_for(watch(cursor, "OrderCancelled"), 10)
    assert [name for name, _ in seen] == await store.told(request.order_id)
    assert [int(at) for _, at in seen] == sorted({int(at) for _, at in seen})


async def test_customers_watch_their_own_orders(store: Shop) -> None:
    ann, bob = str(uuid4()), str(uuid4())
    own = store.lab.bearer(ann, scope="")
    stream = store.orders.WatchOrders(lists.WatchOrdersRequest(customer_id=ann), metadata=own)
    await stream.initial_metadata()
    await store.order(("needle", 1), customer_id=bob)
    order = await store.order(("needle", 1), customer_id=ann)
    message = await asyncio.wait_for(stream.read(), 10)
    assert (message.order_id, message.event) == (order.order_id, "OrderCreated")
    stream.cancel()
    foreign = store.orders.WatchOrders(lists.WatchOrdersRequest(customer_id=bob), metadata=own)
    assert await refused(foreign.read()) == "NOT_PERMITTED"
    assert standing(order) == "CONFIRMED"
    assert datetime.now(UTC) > message.time.ToDatetime(tzinfo=UTC)
