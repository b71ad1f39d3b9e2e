"""A gateway to try things out: what happens to a payment follows from its token, as published test cards do.

The tokens are those of Stripe's testing documentation, as `tok_...` or `pm_card_...`. Nothing is charged.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis.db import Connection, Database
from services.payment.domain.remote import (
    Charge,
    DisputeState,
    GatewayRefused,
    Kept,
    Notice,
    Remote,
    RemoteDispute,
    RemoteState,
    Source,
)
from services.payment.domain.webhook import verify
from services.payment.gateways.desk import LOCK, MOVE, Desk, Opening
from services.payment.gateways.stripe import notice_of

KEPT_EXPIRY = "2035-12"
DISPUTE_FEE = 1500  # Minor units: what banks ask for a dispute.
DECLINE = "update desk_payment set state = 'DECLINED', decline_code = $3 where gateway = $1 and ref = $2"
DISPUTE = "update desk_payment set dispute = $3 where gateway = $1 and ref = $2 returning captured"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a card does."""

    brand: str = "visa"
    last4: str = "4242"
    decline: str = ""  # When it is charged, after the authentication if it asks for one.
    action: bool = False  # It asks for an authentication.
    keeps: bool = True  # Whether it can be attached.
    dispute: bool = False  # It is disputed as soon as it is charged.


PLANS = {
    "visa": Plan(),
    "visa_debit": Plan(last4="5556"),
    "mastercard": Plan("mastercard", "4444"),
    "mastercard_debit": Plan("mastercard", "8210"),
    "mastercard_prepaid": Plan("mastercard", "5100"),
    "amex": Plan("amex", "8431"),
    "discover": Plan("discover", "1117"),
    "diners": Plan("diners", "3237"),
    "jcb": Plan("jcb", "0505"),
    "bypassPending": Plan(last4="0077"),
    "avsFail": Plan(last4="0010"),
    "avsLine1Fail": Plan(last4="0028"),
    "avsZipFail": Plan(last4="0036"),
    "cvcCheckFail": Plan(last4="0101"),
    "chargeDeclined": Plan(last4="0002", decline="card_declined", keeps=False),
    "chargeDeclinedInsufficientFunds": Plan(last4="9995", decline="insufficient_funds", keeps=False),
    "chargeDeclinedLostCard": Plan(last4="9987", decline="lost_card", keeps=False),
    "chargeDeclinedStolenCard": Plan(last4="9979", decline="stolen_card", keeps=False),
    "chargeDeclinedExpiredCard": Plan(last4="0069", decline="expired_card", keeps=False),
    "chargeDeclinedIncorrectCvc": Plan(last4="0127", decline="incorrect_cvc", keeps=False),
    "chargeDeclinedProcessingError": Plan(last4="0119", decline="processing_error", keeps=False),
    "chargeCustomerFail": Plan(last4="0341", decline="card_declined"),
    "createDispute": Plan(last4="0259", dispute=True),
    "authenticationRequiredOnSetup": Plan(last4="3155", action=True),
    "authenticationRequired": Plan(last4="3184", action=True),
    "authenticationRequiredSetupForOffSession": Plan(last4="0446"),
    "authenticationRequiredChargeDeclinedInsufficientFunds": Plan(
        last4="3178", decline="insufficient_funds", action=True
    ),
    "threeDSecure2Required": Plan(last4="3220", action=True),
    "threeDSecureRequiredChargeDeclined": Plan(last4="1629", decline="card_declined", action=True),
    "threeDSecureRequiredProcessingError": Plan(last4="1280", decline="processing_error", action=True),
    "threeDSecureOptional": Plan(last4="3055"),
}


def plan_of(token: str) -> str:
    """The name in PLANS; empty for a token that is none."""
    bare = re.sub(r"^(tok|pm_card|kept)_(visa_(?!debit))?", "", token)
    return bare if bare in PLANS else ""


class Sandbox(Desk):
    name = "sandbox"

    def __init__(self, db: Database, edge_url: str, secret: str) -> None:
        """`secret` signs its webhooks; empty: there are none."""
        super().__init__(db)
        self._edge_url, self._secret = edge_url, secret

    async def keep(self, customer_id: UUID, method_id: UUID, token: str, known: str) -> Kept:
        name = plan_of(token)
        if not name:
            raise GatewayRefused("resource_missing", "There is no such token.")
        plan = PLANS[name]
        if not plan.keeps:
            raise GatewayRefused(plan.decline, "The card was declined.")
        return Kept(source=Source(f"kept_{name}"), brand=plan.brand, last4=plan.last4, expiry=KEPT_EXPIRY)

    def notice(self, header: Callable[[str], str], body: bytes, now: datetime) -> Notice | None:
        verify(self._secret, header("weft-signature"), body, now)
        return notice_of(body)

    async def opening(self, tx: Connection, charge: Charge) -> Opening:
        name = plan_of(charge.source.token if charge.source else "")
        if not name:
            return Opening(state=RemoteState.DECLINED, decline_code="resource_missing")
        plan = PLANS[name]
        if plan.action:
            url = f"{self._edge_url}/v1/sandbox-payments/{charge.ref}"
            return Opening(state=RemoteState.ACTION, plan=name, redirect_url=url)
        if plan.decline:
            return Opening(state=RemoteState.DECLINED, plan=name, decline_code=plan.decline)
        return Opening(state=RemoteState.TAKEN if charge.capture else RemoteState.AUTHORISED, plan=name)

    async def authenticate(self, ref: str, *, succeed: bool, capture: bool) -> None:
        """The customer did what was asked of them, or would not. Without effect at any other time."""
        async with self._db.fast() as tx:
            row = await tx.fetchrow(LOCK, self.name, ref)
            if row is None or row["state"] != RemoteState.ACTION:
                return
            decline = PLANS[row["plan"]].decline if succeed else "authentication_failed"
            if decline:
                await tx.execute(DECLINE, self.name, ref, decline)
            elif capture:
                await tx.execute(MOVE, self.name, ref, RemoteState.TAKEN, row["amount"])
            else:
                await tx.execute(MOVE, self.name, ref, RemoteState.AUTHORISED, 0)

    async def dispute(self, ref: str, state: DisputeState) -> bool:
        """Whether there is such a payment, and something was taken."""
        return bool(await self._db.fetchval(DISPUTE, self.name, ref, state))

    def remote(self, row: Any, refunds: list[Any]) -> Remote:
        seen = super().remote(row, refunds)
        state = row["dispute"] or (row["plan"] and PLANS[row["plan"]].dispute and DisputeState.OPEN)
        if not state or not row["captured"]:
            return seen
        dispute = RemoteDispute(
            ref=f"dispute_{row['ref']}",
            payment_ref=row["ref"],
            amount=row["captured"],
            currency=row["currency"],
            state=DisputeState(state),
            fee=DISPUTE_FEE,
            reason="fraudulent",
        )
        return Remote(
            state=seen.state,
            captured=seen.captured,
            refunds=seen.refunds,
            redirect_url=seen.redirect_url,
            decline=seen.decline,
            disputes=(dispute,),
        )
