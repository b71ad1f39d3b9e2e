"""VAT numbers: what their country's rules say of one, and what a register said."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any
from uuid import UUID

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from services.billing.domain.row import Row
from services.billing.domain.tax import NumberState
from services.billing.domain.tax_territory import ALIASES, JOINED, NORTHERN_IRELAND
from services.chassis.errors import AlreadyExists, NotFound

RETRY_S, RETRY_S_MAX = 60.0, 21_600.0  # A register that is away comes back within minutes, or overnight.
ATTEMPTS_MAX = 60  # Two weeks; whoever still wants to know by then asks anew.
IN_VIES = {country for country in JOINED if country != "GB"} | {NORTHERN_IRELAND}


class UnknownVatCheck(NotFound):
    """There is no VAT check {check_id}."""


class VatCheckIdReused(AlreadyExists):
    """VAT check {check_id} was made for another number."""


class Why(StrEnum):
    """Why a number is not VALID, where no register says it better."""

    FORMAT = "FORMAT"
    NOT_REGISTERED = "NOT_REGISTERED"
    NOT_IN_VIES = "NOT_IN_VIES"
    NOT_ASKED = "NOT_ASKED"


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written, put into one form."""

    country: str  # As ISO has it: `GR`.
    compact: str  # With its prefix: `EL094259216`.
    formed: bool  # It keeps its country's rules, check digits included.

    @property
    def local(self) -> str:
        """Without the prefix."""
        return self.compact[2:]

    @property
    def prefix(self) -> str:
        return self.compact[:2]


def number(written: str) -> Number:
    """Never refuses: a number that nobody understands is not formed."""
    compact = re.sub(r"[\s.\-/]", "", written).upper()
    country = ALIASES.get(compact[:2], compact[:2])
    rules = _rules("GB" if country == NORTHERN_IRELAND else country)
    formed = rules is not None and compact.isascii() and compact.isalnum() and _keeps(rules, compact)
    return Number(country, f"EL{compact[2:]}" if country == "GR" else compact, formed)


def _keeps(rules: Any, compact: str) -> bool:
    """Switzerland's `CHE` is part of the number itself."""
    return bool(rules.is_valid(compact if compact.startswith("CHE") else compact[2:]))


@cache
def _rules(country: str) -> Any:
    """python-stdnum's module of a country's VAT numbers; None: it has none."""
    if not re.fullmatch(r"[A-Z]{2}", country):
        return None
    get_cc_module = import_module("stdnum.util").get_cc_module
    return get_cc_module(country.lower(), "vat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a register said, or how it failed to."""

    state: NumberState
    reason: str = ""
    consultation_number: str = ""
    trader_name: str = ""
    trader_address: str = ""


class VatCheck(Row):
    """One look into one number."""

    __tablename__ = "vat_check"
    check_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID | None]
    vat_number: Mapped[str]  # Empty: erased.
    request_digest: Mapped[bytes]
    country: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str]
    consultation_number: Mapped[str]
    trader_name: Mapped[str]
    trader_address: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    retry_at: Mapped[datetime | None]

    @classmethod
    def begin(
        cls, check_id: UUID, customer_id: UUID | None, of: Number, digest: bytes, now: datetime
    ) -> "VatCheck":
        """Answered at once where the number breaks its country's rules; else VIES is due."""
        state = NumberState.UNCONFIRMED if of.formed else NumberState.INVALID
        asked = of.formed and of.country in IN_VIES
        reason = Why.FORMAT if not of.formed else Why.NOT_ASKED if asked else Why.NOT_IN_VIES
        return cls(
            check_id=check_id,
            customer_id=customer_id,
            vat_number=of.compact,
            request_digest=digest,
            country=of.country[:2],
            state=state,
            reason=reason,
            consultation_number="",
            trader_name="",
            trader_address="",
            attempts=0,
            created_at=now,
            answered_at=None if of.formed else now,
            retry_at=now if asked else None,
        )

    def asked_at_once(self) -> None:
        """Whoever makes it asks; the loop, which would ask too, waits for what becomes of that."""
        if self.retry_at is not None:
            self.retry_at += timedelta(seconds=RETRY_S)

    def hear(self, answer: Answer, now: datetime) -> bool:
        """Takes an answer. Returns whether the state changed; what was answered once stays."""
        if self.answered_at is not None:
            return False
        self.attempts += 1
        self.reason = answer.reason
        if answer.state is NumberState.UNCONFIRMED:
            wait = min(RETRY_S * 2 ** (self.attempts - 1), RETRY_S_MAX)
            self.retry_at = now + timedelta(seconds=wait) if self.attempts < ATTEMPTS_MAX else None
            return False
        self.state, self.answered_at, self.retry_at = answer.state, now, None
        self.consultation_number = answer.consultation_number
        self.trader_name, self.trader_address = answer.trader_name, answer.trader_address
        return True
