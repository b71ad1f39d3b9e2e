"""Determines taxes by the rates and VAT numbers that the database knows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.billing.domain.tax import Kind, NumberState, Sale, Supply, Tax, determine
from services.billing.domain.tax_number import Number, number
from services.billing.domain.tax_territory import place
from services.billing.store import tax_number, tax_rate
from services.billing.tax_settings import TaxSettings
from services.chassis.clock import Clock
from services.chassis.db import AnyTx, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A sale as its parties describe it."""

    buyer_country: str
    kind: Kind
    at: datetime
    seller_country: str = ""  # Empty: the seller's own.
    buyer_postcode: str = ""
    vat_number: str = ""
    supply: Supply = Supply.GOODS


class Taxes:
    """Asks the database and nobody else."""

    def __init__(self, clock: Clock, seller_country: str, settings: TaxSettings) -> None:
        self._clock, self._seller_country, self._settings = clock, seller_country, settings

    async def determine(self, source: Database | AnyTx, questions: Sequence[Question]) -> list[Tax]:
        """One tax for each question, in their order. Raises NoTaxRate."""
        numbers = [number(question.vat_number) if question.vat_number else None for question in questions]
        states = await self._states(source, {each for each in numbers if each})
        sales = [self._sale(asked, of, states) for asked, of in zip(questions, numbers, strict=True)]
        taxing = {place.taxing for sale in sales for place in (sale.seller, sale.buyer)}
        rates = await tax_rate.rates(source, sorted(taxing))
        return [determine(sale, rates, one_stop_shop=self._settings.one_stop_shop) for sale in sales]

    def _sale(self, asked: Question, of: Number | None, states: dict[Number, NumberState]) -> Sale:
        sale = Sale(
            seller=place(asked.seller_country or self._seller_country),
            buyer=place(asked.buyer_country, asked.buyer_postcode),
            kind=asked.kind,
            at=asked.at,
            supply=asked.supply,
        )
        return replace(sale, number=states[of], number_country=of.country) if of else sale

    async def _states(self, source: Database | AnyTx, numbers: set[Number]) -> dict[Number, NumberState]:
        formed = sorted(each.compact for each in numbers if each.formed)
        since = self._clock.now() - timedelta(days=self._settings.vies_trust_days)
        known = await tax_number.known(source, formed, since) if formed else {}
        return {each: self._state(each, known.get(each.compact)) for each in numbers}

    def _state(self, of: Number, known: NumberState | None) -> NumberState:
        if not of.formed:
            return NumberState.INVALID
        return known or NumberState.UNCONFIRMED
