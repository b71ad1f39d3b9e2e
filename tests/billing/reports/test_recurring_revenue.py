"""Recurring revenue through gRPC: who moved it, by hand."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from services.chassis.testing import Lab
from tests.billing.reports.world import World, berlin, stamp
from weft.billing.v1 import events_pb2 as events

NAMES = ("opening", "new", "expansion", "contraction", "churn", "reactivation", "closing")


class Customer:
    """Says what its subscriptions do."""

    def __init__(self, world: World) -> None:
        self._world, self._customer_id = world, str(uuid4())
        self._subs: dict[str, str] = {}

    def _ids(self, name: str, at: datetime) -> dict[str, Any]:
        subscription_id = self._subs.setdefault(name, str(uuid4()))
        return {
            "subscription_id": subscription_id,
            "customer_id": self._customer_id,
            "effective_time": stamp(at),
        }

    def starts(self, name: str, monthly: int, at: datetime) -> events.SubscriptionStarted:
        paid = self._world.money(monthly)
        return events.SubscriptionStarted(**self._ids(name, at), trial=not monthly, monthly=paid)

    def changes(self, name: str, before: int, monthly: int, at: datetime) -> events.SubscriptionChanged:
        paid, now = self._world.money(before), self._world.money(monthly)
        return events.SubscriptionChanged(**self._ids(name, at), monthly_before=paid, monthly=now)

    def ends(self, name: str, before: int, at: datetime) -> events.SubscriptionCancelled:
        paid = self._world.money(before)
        return events.SubscriptionCancelled(**self._ids(name, at), monthly_before=paid)

    def pauses(self, name: str, before: int, at: datetime) -> events.SubscriptionPaused:
        paid = self._world.money(before)
        return events.SubscriptionPaused(**self._ids(name, at), monthly_before=paid)

    def resumes(self, name: str, monthly: int, at: datetime) -> events.SubscriptionResumed:
        return events.SubscriptionResumed(**self._ids(name, at), monthly=self._world.money(monthly))


def told(world: World) -> list[Any]:
    """Of three customers. A: 100, then 150, then 120, then gone, then back with 80. B: 50 and a second
    subscription of 30; both end at one moment. C: starts in trial, pays 200 from March."""
    a, b, c = Customer(world), Customer(world), Customer(world)
    return [
        a.starts("first", 100, berlin(1, 10)),
        a.changes("first", 100, 150, berlin(2, 1)),
        a.changes("first", 150, 120, berlin(2, 20)),
        a.ends("first", 120, berlin(3, 1)),
        a.starts("second", 80, berlin(4, 2)),
        b.starts("first", 50, berlin(1, 31)),
        b.starts("second", 30, berlin(2, 3)),
        b.ends("first", 50, berlin(3, 15)),
        b.ends("second", 30, berlin(3, 15)),
        c.starts("first", 0, berlin(1, 5)),
        c.changes("first", 0, 200, berlin(3, 5)),
    ]


async def test_recurring_revenue_moves_by_customer_and_closes_as_the_next_month_opens(lab: Lab) -> None:
    world = World(lab, "CAD")
    await world.announce(*reversed(told(world)))
    months = await world.recurring("2026-01", "2026-04")
    assert [[getattr(row, name).amount_minor for name in NAMES] for row in months] == [
        [0, 150, 0, 0, 0, 0, 150],
        [150, 0, 80, 30, 0, 0, 200],
        [200, 200, 0, 0, 200, 0, 200],
        [200, 0, 0, 0, 0, 80, 280],
    ]
    assert [(row.opening_customers, row.new_customers, row.churned_customers) for row in months] == [
        (0, 2, 0),
        (2, 0, 0),
        (2, 1, 2),
        (1, 0, 0),
    ]
    assert [row.closing_customers for row in months] == [2, 2, 1, 2]
    assert [(row.churn_rate, row.customer_churn_rate) for row in months] == [
        ("", ""),
        ("0.00", "0.00"),
        ("100.00", "100.00"),
        ("0.00", "0.00"),
    ]
    retention = [(row.net_retention, row.gross_retention) for row in months]
    assert retention == [("", ""), ("133.33", "80.00"), ("0.00", "0.00"), ("100.00", "100.00")]


async def test_a_change_of_subscription_at_one_moment_is_no_churn(lab: Lab) -> None:
    world = World(lab, "AUD")
    customer = Customer(world)
    await world.announce(
        customer.starts("first", 100, berlin(1, 1)),
        customer.pauses("first", 100, berlin(2, 1)),
        customer.resumes("second", 160, berlin(2, 1)),
    )
    [row] = await world.recurring("2026-02", "2026-02")
    moved = (row.expansion.amount_minor, row.churn.amount_minor, row.reactivation.amount_minor)
    assert moved == (60, 0, 0)
