"""weft.ledger.v1.AccountService."""

from types import SimpleNamespace
from uuid import UUID

from services.chassis.db import Database
from services.chassis.events import emit
from services.chassis.method import Call
from services.chassis.money import exponent
from services.ledger import pack
from services.ledger.domain.account import AccountNotSettled, settled
from services.ledger.store import account as store
from weft.ledger.v1 import account_pb2 as pb
from weft.ledger.v1.account_pb2_grpc import AccountServiceServicer
from weft.ledger.v1.events_pb2 import AccountClosed, AccountCreated


class Accounts(AccountServiceServicer):
    def __init__(self, db: Database, page_key: str) -> None:
        self._db, self._page_key = db, page_key

    async def CreateAccounts(
        self, request: pb.CreateAccountsRequest, call: Call
    ) -> pb.CreateAccountsResponse:
        now = self._db.clock.now()
        for new in request.accounts:
            exponent(new.currency)
        rows = [pack.account_from_pb(new, now) for new in request.accounts]
        async with self._db.transaction() as tx:
            made = await store.create(tx, sorted(rows, key=lambda row: row.account_id))
            await emit(tx, *(_created(pack.account_to_pb(row)) for row in made))
            stored = await store.many(tx, [row.account_id for row in rows])
        return pb.CreateAccountsResponse(
            accounts=[pack.account_to_pb(stored[row.account_id]) for row in rows]
        )

    async def GetAccount(self, request: pb.GetAccountRequest, call: Call) -> pb.GetAccountResponse:
        row = await store.get(self._db, UUID(request.account_id))
        return pb.GetAccountResponse(account=pack.account_to_pb(SimpleNamespace(**row)))

    async def ListAccounts(self, request: pb.ListAccountsRequest, call: Call) -> pb.ListAccountsResponse:
        page = store.ACCOUNTS.page(request, self._page_key)
        async with self._db.transaction() as tx:
            rows, token = await store.page(tx, page)
        return pb.ListAccountsResponse(accounts=map(pack.account_to_pb, rows), next_page_token=token)

    async def CloseAccount(self, request: pb.CloseAccountRequest, call: Call) -> pb.CloseAccountResponse:
        async with self._db.transaction() as tx:
            row = await store.held(tx, UUID(request.account_id))
            if not row.closed:
                if not settled(row):
                    raise AccountNotSettled(account_id=row.account_id)
                row.closed = True
                await emit(tx, AccountClosed(account_id=request.account_id))
        return pb.CloseAccountResponse(account=pack.account_to_pb(row))

    async def GetBalance(self, request: pb.GetBalanceRequest, call: Call) -> pb.GetBalanceResponse:
        account_id = UUID(request.account_id)
        if at := pack.moment(request, "effective_at"):
            posted = await store.effective(self._db, account_id, at)
        else:
            known = pack.moment(request, "recorded_at") or self._db.clock.now()
            posted = await store.recorded(self._db, account_id, known)
        return pb.GetBalanceResponse(
            currency=posted.currency,
            debits_posted_minor=posted.debits,
            credits_posted_minor=posted.credits,
            balance_minor=pack.balance(posted.kind, posted.debits, posted.credits),
        )


def _created(account: pb.Account) -> AccountCreated:
    return AccountCreated(
        account_id=account.account_id,
        code=account.code,
        currency=account.currency,
        kind=account.kind,
        owner_id=account.owner_id,
    )
