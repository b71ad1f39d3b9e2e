"""weft.ledger.v1.DistributionService."""

from hashlib import sha256
from uuid import UUID, uuid5

from services.chassis.db import AnyTx, Database
from services.chassis.errors import Refusal
from services.chassis.method import Call
from services.chassis.money import money_from_pb
from services.ledger import pack
from services.ledger.domain.account import UnknownAccount
from services.ledger.domain.book import Wanted
from services.ledger.domain.distribution import (
    Account,
    InOrder,
    Plan,
    Shares,
    Source,
    Target,
    To,
    available,
    names,
    portion,
)
from services.ledger.domain.entry import Entry, Kind, TransferIdReused
from services.ledger.journal import Journal
from services.ledger.store import entry as entries, writing
from weft.ledger.v1 import distribution_pb2 as pb
from weft.ledger.v1.distribution_pb2_grpc import DistributionServiceServicer


class Distributions(DistributionServiceServicer):
    def __init__(self, db: Database, journal: Journal) -> None:
        self._db, self._journal = db, journal

    async def CreateDistribution(
        self, request: pb.CreateDistributionRequest, call: Call
    ) -> pb.CreateDistributionResponse:
        money_from_pb(request.amount)
        asked = sha256(request.SerializeToString(deterministic=True)).digest()
        async with self._db.fast() as tx:
            await writing.hold(tx)
            made = await entries.of_distribution(tx, UUID(request.distribution_id))
            if made and made[0].body != asked:
                raise TransferIdReused(transfer_id=request.distribution_id)
            made = made or await self._distribute(tx, request, asked)
        return pb.CreateDistributionResponse(transfers=[pack.entry(each, {}) for each in made])

    async def _distribute(
        self, tx: AnyTx, request: pb.CreateDistributionRequest, asked: bytes
    ) -> list[Entry]:
        """Nobody else books meanwhile. Raises the first refusal."""
        source, target = _source(request.source), _target(request.destination)
        taking = names(source)
        sums = await writing.sums(tx, map(UUID, taking))
        if missing := sorted(taking - {str(account_id) for account_id in sums}):
            raise UnknownAccount(account_id=missing[0])
        states = {str(account_id): each.state() for account_id, each in sums.items()}
        plan = Plan(available(states))
        plan.send(request.amount.amount_minor, source, target)
        outcomes = await self._journal.record(tx, _wanted(request, asked, plan.postings))
        refusals = [each for each in outcomes if isinstance(each, Refusal)]
        if refusals:
            raise next((r for r in refusals if r.reason() != "LINKED_TRANSFER_FAILED"), refusals[0])
        return [each for each in outcomes if isinstance(each, Entry)]


def _wanted(
    request: pb.CreateDistributionRequest, asked: bytes, postings: list[tuple[str, str, int]]
) -> list[Wanted]:
    """Linked; their ids say which place each has."""
    distribution_id = UUID(request.distribution_id)
    return [
        Wanted(
            transfer_id=uuid5(distribution_id, str(place)),
            kind=Kind.POSTED,
            asked=asked,
            debit_account_id=UUID(source),
            credit_account_id=UUID(target),
            amount_minor=amount,
            currency=request.amount.currency,
            linked=place < len(postings) - 1,
            code=request.code,
            reference=request.reference or f"distribution:{distribution_id}",
            effective_at=pack.moment(request, "effective_time"),
        )
        for place, (source, target, amount) in enumerate(postings)
    ]


def _source(of: pb.Source) -> Source:
    most = of.max_minor or None
    kind = of.WhichOneof("from")
    if kind == "account":
        overdraft = None if of.account.unbounded else of.account.overdraft_minor
        return Account(of.account.account_id, overdraft, most)
    if kind == "in_order":
        return InOrder([_source(each) for each in of.in_order.sources], most)
    return Shares([(portion(each.portion), _source(each.source)) for each in of.shares.shares], most)


def _target(of: pb.Destination) -> Target:
    most = of.max_minor or None
    kind = of.WhichOneof("to")
    if kind == "in_order":
        return InOrder([_target(each) for each in of.in_order.destinations], most)
    if kind == "shares":
        return Shares([(portion(s.portion), _target(s.destination)) for s in of.shares.shares], most)
    return To(of.account_id, most)
