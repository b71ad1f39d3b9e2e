"""A stateful server that is shaped like Stripe, counts what it really takes, and fails as networks do.

What it keeps outlives whoever calls it. Answers are kept by idempotency key, errors included, as Stripe does.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, dict[str, Any]]
DECLINES = {"pm_card_chargeDeclined": "generic_decline", "pm_card_insufficient": "insufficient_funds"}


class Refused(Exception):
    """An error of the API."""

    def __init__(self, status: int, kind: str, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.error = status, {"type": kind, "code": code, "message": message or code}


@dataclass
class StripeServer:
    """Its accounts, and what goes wrong."""

    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)  # Kept cards: the token they were made of.
    kept: dict[str, Answer] = field(default_factory=dict)  # By idempotency key.
    charges: dict[str, int] = field(default_factory=dict)  # How often money was held, by our intent.
    fault: Callable[[], str] = lambda: ""  # Of the next call: cut, deaf, broken, busy; empty: none.
    after: Callable[[], Awaitable[None]] | None = None  # Between the next answer and its sending.
    url: str = ""

    @property
    def taken(self) -> int:
        """What is kept of all, in the end."""
        captured = sum(each["amount_received"] for each in self.intents.values())
        return captured - sum(each["amount"] for each in self.refunds.values())

    def answer(self, verb: str, path: str, form: dict[str, str], key: str) -> Answer:
        if key in self.kept:
            return self.kept[key]
        try:
            found = (200, self._route(verb, path.strip("/").split("/")[1:], form))
        except Refused as refused:
            found = (refused.status, {"error": refused.error})
        if key:
            self.kept[key] = found
        return found

    def agree(self, ref: str) -> None:
        """The customer authenticates."""
        intent = self.intents[ref]
        if intent["status"] == "requires_action":
            intent["next_action"] = None
            self._charge(intent)

    def _route(self, verb: str, path: list[str], form: dict[str, str]) -> dict[str, Any]:
        match verb, path:
            case "POST", ["payment_intents"]:
                return self._create(form)
            case "GET", ["payment_intents", ref]:
                return self._intent(ref)
            case "POST", ["payment_intents", ref, what]:
                act = {"confirm": self._confirm, "capture": self._capture, "cancel": self._cancel}[what]
                act(self._intent(ref), form)
                return self._intent(ref)
            case "POST", ["refunds"]:
                return self._refund(form)
            case "GET", ["refunds"]:
                return {"object": "list", "has_more": False, "url": "/v1/refunds", "data": self._of(form)}
        return self._keep(verb, path, form)

    def _keep(self, verb: str, path: list[str], form: dict[str, str]) -> dict[str, Any]:
        if path == ["customers"]:
            made = {"id": f"cus_{len(self.customers)}", "object": "customer"}
            self.customers[made["id"]] = made
            return made
        if path[:1] == ["payment_methods"] and path[2:] == ["attach"]:
            if path[1] in DECLINES:
                raise Refused(402, "card_error", "card_declined")
            kept = f"pm_kept{len(self.methods)}"
            self.methods[kept] = path[1]
            card = {"brand": "visa", "last4": "4242", "exp_month": 8, "exp_year": 2035}
            return {"id": kept, "object": "payment_method", "card": card}
        raise Refused(404, "invalid_request_error", "resource_missing")

    def _intent(self, ref: str) -> dict[str, Any]:
        if ref not in self.intents:
            raise Refused(404, "invalid_request_error", "resource_missing")
        return self.intents[ref]

    def _create(self, form: dict[str, str]) -> dict[str, Any]:
        token = form["payment_method"]
        if not token.startswith(("pm_card", "pm_kept")):
            raise Refused(404, "invalid_request_error", "resource_missing")
        ref = f"pi_{len(self.intents)}{random.randrange(16**8):08x}"
        self.intents[ref] = {
            "id": ref,
            "object": "payment_intent",
            "amount": int(form["amount"]),
            "currency": form["currency"],
            "amount_received": 0,
            "status": "requires_confirmation",
            "capture_method": form["capture_method"],
            "metadata": {"weft_intent": form["metadata[weft_intent]"]},
            "payment_method": token,
            "latest_charge": None,
            "last_payment_error": None,
            "next_action": None,
        }
        return self.intents[ref]

    def _confirm(self, intent: dict[str, Any], form: dict[str, str]) -> None:
        _expect(intent, "requires_confirmation", "requires_payment_method")
        token = self.methods.get(intent["payment_method"], intent["payment_method"])
        if token in DECLINES:
            error = {"code": "card_declined", "decline_code": DECLINES[token], "message": "Declined."}
            intent |= {"status": "requires_payment_method", "last_payment_error": error}
            raise Refused(402, "card_error", "card_declined", "Declined.")
        if token == "pm_card_authenticationRequired":
            to = {"url": f"https://bank.test/{intent['id']}", "return_url": form.get("return_url", "")}
            action = {"type": "redirect_to_url", "redirect_to_url": to}
            intent |= {"status": "requires_action", "next_action": action}
            return
        self._charge(intent)

    def _charge(self, intent: dict[str, Any]) -> None:
        ours = intent["metadata"]["weft_intent"]
        self.charges[ours] = self.charges.get(ours, 0) + 1
        intent["latest_charge"] = f"ch_{intent['id']}"
        if intent["capture_method"] == "manual":
            intent["status"] = "requires_capture"
        else:
            intent |= {"status": "succeeded", "amount_received": intent["amount"]}

    def _capture(self, intent: dict[str, Any], form: dict[str, str]) -> None:
        _expect(intent, "requires_capture")
        amount = int(form["amount_to_capture"])
        if intent["amount_received"] + amount > intent["amount"]:
            raise Refused(400, "invalid_request_error", "amount_too_large")
        intent["amount_received"] += amount
        final = form.get("final_capture", "true") == "true" or intent["amount_received"] == intent["amount"]
        intent["status"] = "succeeded" if final else "requires_capture"

    def _cancel(self, intent: dict[str, Any], form: dict[str, str]) -> None:
        _expect(
            intent, "requires_confirmation", "requires_payment_method", "requires_capture", "requires_action"
        )
        intent["status"] = "succeeded" if intent["amount_received"] else "canceled"

    def _refund(self, form: dict[str, str]) -> dict[str, Any]:
        ref, amount = form["payment_intent"], int(form["amount"])
        left = self._intent(ref)["amount_received"] - sum(each["amount"] for each in self._of(form))
        if amount > left:
            raise Refused(400, "invalid_request_error", "charge_already_refunded")
        made = {
            "id": f"re_{len(self.refunds)}",
            "object": "refund",
            "payment_intent": ref,
            "amount": amount,
            "status": "succeeded",
            "metadata": {"weft_key": form["metadata[weft_key]"]} if "metadata[weft_key]" in form else {},
        }
        self.refunds[made["id"]] = made
        return made

    def _of(self, form: dict[str, str]) -> list[dict[str, Any]]:
        return [each for each in self.refunds.values() if each["payment_intent"] == form["payment_intent"]]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as long as it lasts."""
        try:
            while await self._exchange(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        verb, target, _ = head[0].split(" ")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        form = dict(parse_qsl(body.decode() or parts.query, keep_blank_values=True))
        fault = self.fault()
        if fault == "deaf":
            return False
        if fault == "busy":
            status, found = 429, {"error": {"type": "rate_limit_error"}}
        else:
            status, found = self.answer(verb, parts.path, form, headers.get("idempotency-key", ""))
        if fault == "cut":
            return False
        if fault == "broken":
            status, found = 500, {"error": {"type": "api_error"}}
        text = json.dumps(found).encode()
        if after := self.after:
            self.after = None
            await after()
        lines = (
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        )
        writer.write(lines.encode() + text)
        return True


def _expect(intent: dict[str, Any], *statuses: str) -> None:
    """Raises Refused."""
    if intent["status"] not in statuses:
        raise Refused(400, "invalid_request_error", "payment_intent_unexpected_state")


@asynccontextmanager
async def stripe_server() -> AsyncIterator[StripeServer]:
    made = StripeServer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made
        server.close_clients() if hasattr(server, "close_clients") else None
