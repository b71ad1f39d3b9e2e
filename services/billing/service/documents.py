"""weft.billing.v1.DocumentService."""

from typing import Any
from uuid import UUID

from google.api.httpbody_pb2 import HttpBody

from services.billing.documents.filing import Filing, Load
from services.billing.domain.credit_note import UnknownCreditNote
from services.billing.domain.document import DraftHasNoDocument
from services.billing.domain.document_file import DocumentFile, Format
from services.billing.domain.invoice import InvoiceState, UnknownInvoice
from services.billing.store import documents as store
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.method import Call
from weft.billing.v1 import document_pb2 as pb
from weft.billing.v1.document_events_pb2 import DocumentMade
from weft.billing.v1.document_pb2_grpc import DocumentServiceServicer


class Documents(DocumentServiceServicer):
    def __init__(self, filing: Filing) -> None:
        self._filing = filing

    async def GetInvoiceDocument(
        self, request: pb.GetInvoiceDocumentRequest, call: Call
    ) -> pb.GetInvoiceDocumentResponse:
        invoice_id, format = UUID(request.invoice_id), from_pb(request.format)
        filed = await store.filed_invoice(self._filing.db, invoice_id, format)
        if request.customer_id not in ("", str(filed.customer_id)):
            raise UnknownInvoice(invoice_id=invoice_id)
        if filed.state == InvoiceState.DRAFT:
            raise DraftHasNoDocument(invoice_id=invoice_id)
        answer = await self._answer(invoice_id, format, filed, store.invoice)
        return pb.GetInvoiceDocumentResponse(**answer)

    async def GetCreditNoteDocument(
        self, request: pb.GetCreditNoteDocumentRequest, call: Call
    ) -> pb.GetCreditNoteDocumentResponse:
        credit_note_id, format = UUID(request.credit_note_id), from_pb(request.format)
        filed = await store.filed_note(self._filing.db, credit_note_id, format)
        if request.customer_id not in ("", str(filed.customer_id)):
            raise UnknownCreditNote(credit_note_id=credit_note_id)
        answer = await self._answer(credit_note_id, format, filed, store.credit_note)
        return pb.GetCreditNoteDocumentResponse(**answer)

    async def _answer(
        self, subject_id: UUID, format: Format, filed: store.Filed, load: Load
    ) -> dict[str, Any]:
        found: store.Filed | DocumentFile = filed
        content = filed.content
        if content is None:
            found, content = await self._filing.document(subject_id, format, load)
        facts = pb.DocumentFacts(
            sha256=(found.sha256 or b"").hex(),
            electronic=bool(found.electronic),
            broken_rules=found.broken_rules,
        )
        return {"body": HttpBody(content_type=format.media_type, data=content), "facts": facts}

    async def CheckElectronicInvoice(
        self, request: pb.CheckElectronicInvoiceRequest, call: Call
    ) -> pb.CheckElectronicInvoiceResponse:
        report = await self._filing.press.check(request.content)
        broken = any(finding.fatal for finding in report.findings)
        return pb.CheckElectronicInvoiceResponse(
            valid=not report.unreadable and not broken,
            unreadable=report.unreadable,
            findings=[
                pb.ElectronicInvoiceFinding(
                    rule=finding.rule,
                    warning=not finding.fatal,
                    text=finding.text,
                    location=finding.location,
                )
                for finding in report.findings
            ],
        )


def from_pb(format: pb.DocumentFormat.ValueType) -> Format:
    return Format(pb.DocumentFormat.Name(format or pb.DOCUMENT_FORMAT_PDF).rpartition("_")[2])


async def told(tx: Tx, row: DocumentFile, customer_id: UUID) -> None:
    """Announces a document that was made."""
    await emit(
        tx,
        DocumentMade(
            subject_id=str(row.subject_id),
            customer_id=str(customer_id),
            format=pb.DocumentFormat.Value(f"DOCUMENT_FORMAT_{row.format}"),
            sha256=row.sha256.hex(),
            electronic=row.electronic,
        ),
    )
