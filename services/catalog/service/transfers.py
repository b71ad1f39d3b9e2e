"""Products by the thousand: taken in, and sent out."""

from collections.abc import AsyncIterator
from uuid import UUID

from services.catalog import folding
from services.catalog.domain.refusals import ImportRefused, UnknownCategory, UnknownImport
from services.catalog.importing import ProductImport, incoming
from services.catalog.service.shared import Shared
from services.catalog.store import imports, products, tree
from services.catalog.tallying import Tally, error_to_pb
from services.chassis.method import Call
from weft.catalog.v1 import transfer_pb2 as pb
from weft.catalog.v1.product_messages_pb2 import NewVariant, Product

PRODUCTS, CSV = "products", "csv"  # Kinds of imports.


class Transfers:
    """The part of ProductService that moves many."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ImportProducts(
        self, requests: AsyncIterator[pb.ImportProductsRequest], call: Call
    ) -> pb.ImportProductsResponse:
        running: ProductImport | None = None
        number = 0
        async for request in requests:
            if running is None:
                running, number = await self._begin(request), request.first_row
            elif request.import_id not in ("", str(running.tally.import_id or "")):
                raise ImportRefused(why="its messages name two imports")
            for row in request.rows:
                await running.take(incoming(number, row))
                number += 1
        if running is None:
            raise ImportRefused(why="it has no messages")
        await running.flush()
        return pb.ImportProductsResponse(report=await self._report(running.tally))

    async def _begin(self, request: pb.ImportProductsRequest) -> ProductImport:
        import_id = UUID(request.import_id) if request.import_id else None
        tally = await Tally.begun(self._shared.db, import_id, PRODUCTS, request.first_row)
        return ProductImport(self._shared.writing, tally)

    async def _report(self, tally: Tally) -> pb.ImportReport:
        return await tally.report(self._shared.db, self._shared.page_key)

    async def GetImport(self, request: pb.GetImportRequest, call: Call) -> pb.GetImportResponse:
        row = await imports.get(self._shared.db, UUID(request.import_id))
        if row is None:
            raise UnknownImport(import_id=request.import_id)
        return pb.GetImportResponse(report=await self._report(Tally.of(row)))

    async def ListImportErrors(
        self, request: pb.ListImportErrorsRequest, call: Call
    ) -> pb.ListImportErrorsResponse:
        import_id = UUID(request.import_id)
        if await imports.get(self._shared.db, import_id) is None:
            raise UnknownImport(import_id=request.import_id)
        page = imports.LISTING.page(request, self._shared.page_key)
        rows, token = page.cut(await imports.refused(self._shared.db, import_id, page))
        return pb.ListImportErrorsResponse(errors=map(error_to_pb, rows), next_page_token=token)

    async def ExportProducts(
        self, request: pb.ExportProductsRequest, call: Call
    ) -> AsyncIterator[pb.ExportProductsResponse]:
        after = UUID(request.after_product_id) if request.after_product_id else None
        state = str(folding.BY_STATE.get(request.state, ""))
        below = await self._below(request.category_id)
        while rows := await products.export(self._shared.db, after, state, below):
            after = rows[-1]["product_id"]
            yield pb.ExportProductsResponse(rows=[_row(row["payload"]) for row in rows])

    async def _below(self, category_id: str) -> list[UUID] | None:
        if not category_id:
            return None
        below = await tree.below(self._shared.db, UUID(category_id))
        if not below:
            raise UnknownCategory(category_id=category_id)
        return below


def _row(payload: bytes) -> pb.ProductRow:
    product = Product.FromString(payload)
    return pb.ProductRow(
        product_id=product.product_id,
        content=product.content,
        variants=[NewVariant(content=each.content, prices=each.prices) for each in product.variants],
        state=product.state,
    )
