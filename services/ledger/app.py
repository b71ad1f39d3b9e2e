"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.chassis.sealing import Seal, derived
from services.ledger.events import Postings
from services.ledger.expiring import Expiring
from services.ledger.journal import Journal
from services.ledger.service.accounts import Accounts
from services.ledger.service.chain import Chain
from services.ledger.service.distributions import Distributions
from services.ledger.service.statements import Statements
from services.ledger.service.transfers import Transfers
from services.ledger.settings import LedgerSettings
from weft.ledger.v1.account_pb2_grpc import add_AccountServiceServicer_to_server
from weft.ledger.v1.chain_pb2_grpc import add_ChainServiceServicer_to_server
from weft.ledger.v1.distribution_pb2_grpc import add_DistributionServiceServicer_to_server
from weft.ledger.v1.statement_pb2_grpc import add_StatementServiceServicer_to_server
from weft.ledger.v1.transfer_pb2_grpc import add_TransferServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(LedgerSettings, environ, prefix="WEFT_LEDGER_")
    mesh_key = tools.settings.mesh_key
    seal = Seal(derived((settings.key or mesh_key).encode(), "weft.ledger.v1 keys of memos"))
    journal = Journal(tools.db, seal)
    postings = Postings(journal)
    return Parts(
        servicers={
            add_AccountServiceServicer_to_server: Accounts(tools.db, mesh_key),
            add_TransferServiceServicer_to_server: Transfers(tools.db, journal, mesh_key),
            add_DistributionServiceServicer_to_server: Distributions(tools.db, journal),
            add_StatementServiceServicer_to_server: Statements(tools.db, mesh_key),
            add_ChainServiceServicer_to_server: Chain(tools.db),
        },
        consumers=postings.consumers(),
        loops=[Expiring(tools.db, journal, tools.clock, settings.expire_every_s).run],
    )
