"""Gives documents out: what was made before, or what is made now, checked and kept."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

from services.billing.documents.composing import Composer
from services.billing.documents.en16931 import Syntax
from services.billing.documents.orders import Made, Make
from services.billing.documents.page import Style
from services.billing.documents.pressing import Press
from services.billing.domain.document import Document, NoElectronicInvoice
from services.billing.domain.document_file import DocumentFile, Format
from services.billing.store import documents as store
from services.chassis.clock import Clock
from services.chassis.db import Database, Tx

SYNTAX = {Format.PDF: None, Format.UBL: Syntax.UBL, Format.CII: Syntax.CII}
OF_CURRENCY = "BR-DEC"  # The rules on decimals; a currency with three keeps none of them.
Kept = tuple[DocumentFile, bytes]
Load = Callable[[Tx, UUID], Awaitable[store.Source]]
Told = Callable[[Tx, DocumentFile, UUID], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Filing:
    """What makes and keeps documents."""

    db: Database
    clock: Clock
    press: Press
    composer: Composer
    style: Style
    told: Told  # Announces a new document of a customer.
    flights: dict[tuple[UUID, Format], asyncio.Task[Kept]] = field(default_factory=dict)  # Being made.

    async def document(self, subject_id: UUID, format: Format, load: Load) -> Kept:
        """One that is not there yet, made of what `load` reads.

        Made once however many ask at once, and whoever gives up asking. Raises DocumentRefused,
        NoElectronicInvoice, DocumentsBusy.
        """
        flight = self.flights.get((subject_id, format))
        if flight is None:
            flight = asyncio.create_task(self._new(subject_id, format, load))
            self.flights[subject_id, format] = flight
            flight.add_done_callback(lambda _: self.flights.pop((subject_id, format)))
        return await asyncio.shield(flight)

    async def _new(self, subject_id: UUID, format: Format, load: Load) -> Kept:
        async with self.db.transaction() as tx:
            source = await load(tx, subject_id)
        made = await self._made(self.composer.document(source), format)
        row = DocumentFile(
            subject_id=subject_id,
            format=format,
            sha256=hashlib.sha256(made.content).digest(),
            electronic=made.electronic,
            broken_rules=list(made.broken),
            created_at=self.clock.now(),
        )
        async with self.db.transaction() as tx:
            if await store.keep(tx, row, made.content):
                await self.told(tx, row, source.invoice["customer_id"])
            return await store.kept(tx, subject_id, format)

    async def _made(self, document: Document, format: Format) -> Made:
        """XML that breaks a rule of the standard goes to nobody."""
        if format is not Format.PDF and not document.electronic:
            raise NoElectronicInvoice(number=document.number, rules=OF_CURRENCY)
        made = await self.press.make(Make(document=document, style=self.style, format=SYNTAX[format]))
        if format is not Format.PDF and made.broken:
            raise NoElectronicInvoice(number=document.number, rules=", ".join(made.broken))
        return made
