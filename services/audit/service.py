"""weft.audit.v1.AuditService."""

import asyncio
from collections.abc import AsyncIterator

from services.audit import lists, pack, store
from services.audit.domain import Entry
from services.audit.verifier import Verifier
from services.chassis.clock import uuid7
from services.chassis.db import Database
from services.chassis.events import emit
from services.chassis.method import Call
from weft.audit.v1 import audit_pb2 as pb
from weft.audit.v1.audit_pb2_grpc import AuditServiceServicer
from weft.audit.v1.events_pb2 import EntriesExported

WATCH_POLL_S = 0.25  # Any process may append; a look costs one index probe.


class Audit(AuditServiceServicer):
    def __init__(self, db: Database, verifier: Verifier, page_key: str) -> None:
        self._db, self._verifier, self._page_key = db, verifier, page_key

    async def ListEntries(self, request: pb.ListEntriesRequest, call: Call) -> pb.ListEntriesResponse:
        page = lists.ENTRIES.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await lists.entries(tx, page, request.subject_id)
        return pb.ListEntriesResponse(entries=map(pack.entry, rows), next_page_token=token)

    async def GetEntry(self, request: pb.GetEntryRequest, call: Call) -> pb.GetEntryResponse:
        async with self._db.transaction() as tx:
            row = await store.found(tx, request.sequence, request.subject_id)
        return pb.GetEntryResponse(entry=pack.entry(row))

    async def WatchEntries(
        self, request: pb.WatchEntriesRequest, call: Call
    ) -> AsyncIterator[pb.WatchEntriesResponse]:
        seen = request.after_sequence
        if not request.HasField("after_sequence"):
            async with self._db.transaction() as tx:
                seen = (await store.head(tx)).sequence
        await call.send_initial_metadata(())
        while True:
            async with self._db.transaction() as tx:
                last = (await store.head(tx)).sequence
            if last > seen:
                async for row in self._each(request, seen, last):
                    yield pb.WatchEntriesResponse(entry=pack.entry(row))
                seen = last
            await asyncio.sleep(WATCH_POLL_S)

    async def ExportEntries(
        self, request: pb.ExportEntriesRequest, call: Call
    ) -> AsyncIterator[pb.ExportEntriesResponse]:
        async with self._db.transaction() as tx:
            last = (await store.head(tx)).sequence
            await emit(tx, EntriesExported(export_id=str(uuid7()), subject_id=request.subject_id))
        async for row in self._each(request, request.after_sequence, last):
            yield pb.ExportEntriesResponse(entry=pack.entry(row))

    async def _each(
        self,
        request: pb.WatchEntriesRequest | pb.ExportEntriesRequest,
        sequence: int,
        last: int,
    ) -> AsyncIterator[Entry]:
        """What there is behind `sequence` up to `last`, in batches of a transaction each."""
        condition = lists.wanted(request.filter, request.subject_id)
        while True:
            async with self._db.transaction() as tx:
                rows = await store.after(tx, sequence, condition, last=last)
            for row in rows:
                yield row
                sequence = row.sequence
            if len(rows) < store.BATCH_MAX:
                return

    async def VerifyChain(self, request: pb.VerifyChainRequest, call: Call) -> pb.VerifyChainResponse:
        verdict = await self._verifier.verify(request.first_sequence or 1, request.last_sequence or None)
        return pack.verdict(verdict)

    async def ListAnchors(self, request: pb.ListAnchorsRequest, call: Call) -> pb.ListAnchorsResponse:
        page = lists.ANCHORS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await lists.anchors(tx, page)
        return pb.ListAnchorsResponse(anchors=map(pack.anchor, rows), next_page_token=token)
