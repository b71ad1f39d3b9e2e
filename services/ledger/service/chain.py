"""weft.ledger.v1.ChainService."""

from services.chassis.db import Database
from services.chassis.method import Call
from services.ledger.store.verifying import verify
from weft.ledger.v1 import chain_pb2 as pb
from weft.ledger.v1.chain_pb2_grpc import ChainServiceServicer


class Chain(ChainServiceServicer):
    def __init__(self, db: Database) -> None:
        self._db = db

    async def VerifyChain(self, request: pb.VerifyChainRequest, call: Call) -> pb.VerifyChainResponse:
        noted = request.noted_sequence, request.noted_hash
        verdict = await verify(self._db, request.first_sequence, noted)
        return pb.VerifyChainResponse(
            intact=not verdict.finding,
            entries=verdict.entries,
            last_sequence=verdict.last_sequence,
            last_hash=verdict.last_hash,
            broken_sequence=verdict.broken_sequence,
            finding=verdict.finding,
        )
