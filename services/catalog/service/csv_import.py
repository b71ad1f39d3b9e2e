"""ProductService.ImportCsv: a file, from its first byte to the report of its lines."""

from collections.abc import AsyncIterator, Iterable
from uuid import UUID

from services.catalog.columns import Columns
from services.catalog.domain.refusals import CellRefused, ImportRefused, LineRefused, WrongColumns
from services.catalog.importing import SUBJECT_CHARS_MAX, Incoming, ProductImport, incoming
from services.catalog.service.shared import Shared
from services.catalog.sheet import Record, Sheet, Unreadable
from services.catalog.tallying import Numbered, Tally
from services.chassis.method import Call
from weft.catalog.v1 import transfer_pb2 as pb

KIND = "csv"


class CsvImport:
    """One file."""

    def __init__(self, products: ProductImport, form: pb.CsvFormat) -> None:
        """Raises ImportRefused for a charset that nobody knows."""
        self._products, self._form, self._number = products, form, 0
        self._columns: Columns | None = None
        try:
            self._sheet = Sheet(form.charset, form.delimiter)
        except Unreadable as unreadable:
            raise ImportRefused(why=unreadable) from None

    async def feed(self, data: bytes) -> None:
        await self._take(self._sheet.feed(data))

    async def end(self) -> Tally:
        await self._take(self._sheet.end())
        if self._columns is None:
            raise WrongColumns(why="the file is empty")
        await self._products.flush()
        return self._products.tally

    async def _take(self, records: Iterable[Record]) -> None:
        for record in records:
            if self._columns is None:
                if record.problem:
                    raise WrongColumns(why=record.problem)
                self._columns = Columns(record.cells, self._form)
            else:
                await self._products.take(self._incoming(self._columns, record))
                self._number += 1

    def _incoming(self, columns: Columns, record: Record) -> Incoming:
        if record.problem:
            return Incoming(Numbered(self._number, record.line), LineRefused(why=record.problem))
        try:
            row = columns.row(record.cells)
        except (CellRefused, LineRefused) as refusal:
            subject = dict(zip(columns.names, record.cells, strict=False)).get("sku", "")
            named = subject[:SUBJECT_CHARS_MAX].replace("\0", "")
            return Incoming(Numbered(self._number, record.line, named), refusal)
        return incoming(self._number, row, record.line, columns.told)


class ImportsCsv:
    """The part of ProductService that reads files."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ImportCsv(
        self, requests: AsyncIterator[pb.ImportCsvRequest], call: Call
    ) -> pb.ImportCsvResponse:
        running: CsvImport | None = None
        async for request in requests:
            if running is None:
                import_id = UUID(request.import_id) if request.import_id else None
                tally = await Tally.begun(self._shared.db, import_id, KIND, first_row=0)
                running = CsvImport(ProductImport(self._shared.writing, tally), request.format)
            await running.feed(request.file.data)
        if running is None:
            raise ImportRefused(why="it has no messages")
        tally = await running.end()
        report = await tally.report(self._shared.db, self._shared.page_key)
        return pb.ImportCsvResponse(report=report)
