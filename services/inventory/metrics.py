"""What inventory counts."""

from prometheus_client import Counter, Gauge, Histogram

REFUSED = Counter("weft_inventory_refused", "Reservations that were refused for want of stock.")
EXPIRED = Counter("weft_inventory_expired", "Reservations whose time ran out.")
TOGETHER = Histogram(
    "weft_inventory_together",
    "Reservations that were held by one transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
)
DISCREPANCIES = Gauge("weft_inventory_discrepancies", "Levels whose counters are wrong: there must be none.")
