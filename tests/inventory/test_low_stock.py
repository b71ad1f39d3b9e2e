"""What runs low is told to the operator by a mail that arrives, one for all that fell meanwhile."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from services.chassis.config import load
from services.chassis.testing import Lab, laboratory, until
from services.inventory.alerting import Alerting
from services.inventory.app import build
from services.inventory.settings import PREFIX, InventorySettings
from services.notification.app import build as build_notification
from tests.inventory.test_stock_import import imported
from tests.inventory.warehouse import Warehouse, sku
from tests.notification.messages import MAILBOX, mails
from tests.servers import Shared
from weft.inventory.v1.events_pb2 import LowStock
from weft.inventory.v1.stock_import_pb2 import StockRow

OPERATOR = {"WEFT_INVENTORY_ALERT_ADDRESS": "buyer@example.com", "WEFT_INVENTORY_ALERT_EVERY_S": "0.3"}


@pytest.fixture
async def shop(servers: Shared) -> AsyncIterator[Warehouse]:
    builds = {
        "inventory": partial(build, environ=OPERATOR),
        "notification": partial(build_notification, environ=MAILBOX),
    }
    made = laboratory(builds, postgres_url=servers.postgres(), nats_url=servers.account())
    async with made as lab:
        yield await Warehouse.of(lab)


async def alarms(lab: Lab, name: str) -> list[tuple[int, int]]:
    """Available and alert level, as announced."""
    rows = await lab.db("inventory").fetch(
        "select payload from event where type = 'weft.inventory.v1.LowStock' and key = $1 order by position",
        name,
    )
    made = [LowStock.FromString(row["payload"]) for row in rows]
    return [(each.available, each.threshold) for each in made]


async def test_it_is_told_when_it_falls_and_not_again_while_it_stays(warehouse: Warehouse) -> None:
    name, lab = await warehouse.receive(10), warehouse.lab
    await warehouse.threshold(name, 0, alert_at=4)
    assert await alarms(lab, name) == []
    await warehouse.reserve((name, 5))
    assert await alarms(lab, name) == []
    one = (await warehouse.reserve((name, 1))).reservation_id
    await warehouse.reserve((name, 1))
    await warehouse.commit(one)
    assert await alarms(lab, name) == [(4, 4)]
    await warehouse.receive(10, name)
    await warehouse.reserve((name, 10))
    assert await alarms(lab, name) == [(4, 4), (3, 4)]


async def test_a_level_that_is_low_when_the_alert_is_set_is_told_at_once(warehouse: Warehouse) -> None:
    name = await warehouse.receive(2)
    await warehouse.threshold(name, 0, alert_at=5)
    assert await alarms(warehouse.lab, name) == [(2, 5)]


async def test_a_mail_arrives_and_names_what_is_low(shop: Warehouse) -> None:
    name = await shop.receive(10)
    await shop.threshold(name, 0, alert_at=4)
    await shop.reserve((name, 7))
    (mail,) = await mails(shop.lab)
    assert list(mail.recipients) == ["buyer@example.com"]
    assert mail.subject == "Stock runs low"
    assert f"{name} (Main): 3 / 4" in mail.text
    assert name in mail.html


async def test_one_mail_tells_of_all_that_fell_together(shop: Warehouse) -> None:
    mark = sku()
    rows = [
        StockRow(sku=f"{mark}-{n}", location_id=shop.location_id, on_hand=1, alert_at=n) for n in range(1, 26)
    ]
    await imported(shop, rows)
    (mail,) = await mails(shop.lab)
    assert mail.text.count("(Main): ") == 20, "the lowest first"
    assert f"{mark}-25 (Main): 1 / 25" in mail.text
    assert f"{mark}-5 (Main)" not in mail.text
    assert "And of 5 more" in mail.text


async def test_a_mail_whose_sender_died_is_sent_again_under_its_id(shop: Warehouse) -> None:
    """Between notification's answer and our note of it: the same mail, and not another."""
    db: Any = shop.lab.db("inventory")
    name, other = await shop.receive(1), await shop.receive(1)
    await shop.threshold(name, 0, alert_at=1)
    await mails(shop.lab, 1)
    sent = await shop.lab.db("notification").fetchval("select message_id from message")
    claimed = "insert into low_stock values ($1, $2::text::uuid, 0, 1, $3, now())"
    await db.execute(claimed, name, shop.location_id, sent)
    await shop.threshold(other, 0, alert_at=1)

    async def all_told() -> bool:
        return not await db.fetchval("select count(*) from low_stock")

    await until(all_told)
    told = [mail.text.count(name) for mail in await mails(shop.lab, 2)]
    assert sum(told) == 1
    assert len(told) == 2


async def test_what_is_low_waits_in_its_rows_while_mails_are_to_wait(shop: Warehouse) -> None:
    modes, inventory = shop.lab.hosted.tools["inventory"].modes, shop.lab.hosted.tools["inventory"]
    normal = {"modes": {}, "shed": [], "off": [], "stale": [], "queue": []}
    modes.tell(json.dumps({**normal, "queue": ["notification.send"]}).encode())
    name = await shop.receive(1)
    await shop.threshold(name, 0, alert_at=1)
    alerting = Alerting(
        inventory.db, inventory.mesh, inventory.clock, load(InventorySettings, OPERATOR, PREFIX), modes
    )
    assert not await alerting.round()
    assert await shop.lab.db("inventory").fetchval("select count(*) from low_stock") == 1
    modes.tell(json.dumps(normal).encode())
    assert await alerting.round()
    (mail,) = await mails(shop.lab)
    assert name in mail.text
