"""What people who run a shop do in it, by REST."""

from __future__ import annotations

import secrets
from typing import Any
from uuid import uuid4

import httpx

from scripts.journey import StepFailed, soon

CURRENCY, COUNTRY = "EUR", "DE"
PRICE, PERCENT, STOCK = "100.00", "10", 10


class Staff:
    """The administrator, behind the counter."""

    def __init__(self, rest: httpx.AsyncClient) -> None:
        self._rest = rest
        self._headers: dict[str, str] = {}
        mark = secrets.token_hex(3).upper()
        self.sku, self.code, self.title = f"SCARF-{mark}", f"WOOL{mark}", "Merino scarf, undyed"
        self.product_id, self.location_id = str(uuid4()), str(uuid4())

    async def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer's content. Raises StepFailed on a refusal."""
        answer = await self._rest.request(method, path, json=body, params=query, headers=self._headers)
        if answer.status_code != httpx.codes.OK:
            raise StepFailed(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    async def sign_in(self, email: str, password: str) -> None:
        answer = await self.ask("POST", "/v1/sessions", {"email": email, "password": password})
        self._headers = {"authorization": f"Bearer {answer['tokens']['accessToken']}"}

    async def offer(self) -> None:
        """A product with a price, on sale."""
        price = {"price": {"amount": PRICE, "currency": CURRENCY}}
        body = {
            "productId": self.product_id,
            "content": {"title": self.title, "taxCategory": "TAX_CATEGORY_STANDARD"},
            "variants": [{"content": {"sku": self.sku, "shippable": True}, "prices": [price]}],
        }
        await self.ask("POST", "/v1/products", body)
        await self.ask("POST", f"/v1/products/{self.product_id}:publish", {})

    async def stock_up(self) -> None:
        settings = {"name": f"Shelf {self.sku}", "country": COUNTRY}
        place = {"locationId": self.location_id, "settings": settings}
        await self.ask("POST", "/v1/inventory/locations", place)
        receipt = {
            "receiptId": str(uuid4()),
            "locationId": self.location_id,
            "lines": [{"sku": self.sku, "units": STOCK}],
            "reason": "MOVEMENT_REASON_PURCHASE",
        }
        await self.ask("POST", "/v1/inventory/stock:receive", receipt)

    async def promote(self) -> None:
        """So much off, for whoever has the coupon."""
        promotion_id = str(uuid4())
        settings = {
            "name": f"{PERCENT} % off scarves",
            "couponNeeded": True,
            "target": {"skus": [self.sku]},
            "percentage": {"percent": PERCENT, "level": "LEVEL_LINE"},
        }
        body = {"promotionId": promotion_id, "settings": settings}
        await self.ask("POST", "/v1/promotions", body)
        await self.ask("POST", f"/v1/promotions/{promotion_id}:activate", {})
        await self.ask("POST", f"/v1/promotions/{promotion_id}/coupons", {"code": self.code})

    async def ship(self, order_id: str, units: int, tracking: str) -> None:
        body = {
            "shipmentId": str(uuid4()),
            "lines": [{"lineId": "1", "units": units}],
            "carrier": "Post",
            "trackingNumber": tracking,
        }
        await self.ask("POST", f"/v1/orders/{order_id}/shipments", body)

    async def take_back(self, order_id: str, return_id: str) -> None:
        """The return is approved, and the goods are here."""
        path = f"/v1/orders/{order_id}/returns/{return_id}"
        await self.ask("POST", f"{path}:approve", {})
        await self.ask("POST", f"{path}:receive", {})

    async def on_hand(self, units: int) -> int:
        """Units at hand, wherever they lie, once there are so many and none of them is reserved."""
        wanted = f'sku = "{self.sku}"'

        async def there() -> bool:
            stock = (await self.ask("GET", "/v1/inventory/stock", filter=wanted))["stock"]
            here, held = (sum(int(each.get(name, 0)) for each in stock) for name in ("onHand", "reserved"))
            return here == units and not held

        await soon(there)
        return units

    async def entries(self, order_id: str, count: int) -> list[tuple[str, str, int]]:
        """Debited and credited account, and minor units, of all that is booked of an order; oldest first."""
        wanted = f'reference = "order:{order_id}"'

        async def booked() -> Any:
            found = (await self.ask("GET", "/v1/ledger/transfers", filter=wanted)).get("transfers", [])
            return found if len(found) >= count else None

        found = await soon(booked)
        ids = {each[side] for each in found for side in ("debitAccountId", "creditAccountId")}
        codes = {account_id: await self._code(account_id) for account_id in ids}
        return [
            (
                codes[each["debitAccountId"]],
                codes[each["creditAccountId"]],
                int(each["amount"]["amountMinor"]),
            )
            for each in reversed(found)
        ]

    async def balance(self) -> tuple[int, int]:
        """All debits and all credits of the ledger, in minor units."""
        found = await self.ask("GET", "/v1/ledger/trial-balance", currency=CURRENCY)
        return int(found.get("debitsMinor", 0)), int(found.get("creditsMinor", 0))

    async def _code(self, account_id: str) -> str:
        found = await self.ask("GET", f"/v1/ledger/accounts/{account_id}")
        return str(found["account"]["code"])
