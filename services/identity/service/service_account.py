"""weft.identity.v1.ServiceAccountService."""

from collections.abc import Sequence
from uuid import UUID

from services.chassis.caller import Caller
from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import EtagMismatch
from services.chassis.method import Call
from services.identity.domain import service_account as rules
from services.identity.domain.role import require_within, union
from services.identity.domain.service_account import ServiceAccount
from services.identity.service.api_key import ApiKeys
from services.identity.service.shared import Shared
from services.identity.store import api_key as keys, role as roles, service_account as store
from weft.identity.v1 import service_account_pb2 as pb
from weft.identity.v1.credential_events_pb2 import (
    ServiceAccountCreated,
    ServiceAccountDeleted,
    ServiceAccountUpdated,
)
from weft.identity.v1.service_account_pb2_grpc import ServiceAccountServiceServicer


class ServiceAccounts(ServiceAccountServiceServicer):
    def __init__(self, shared: Shared, api_keys: ApiKeys) -> None:
        self._shared, self._api_keys = shared, api_keys

    async def CreateServiceAccount(
        self, request: pb.CreateServiceAccountRequest, call: Call
    ) -> pb.CreateServiceAccountResponse:
        now, names = self._shared.clock.now(), sorted(request.roles)
        account = ServiceAccount(
            service_account_id=UUID(request.service_account_id) if request.service_account_id else uuid7(now),
            name=request.name,
            description=request.description,
            disabled=False,
            revision=1,
            created_at=now,
            updated_at=now,
        )
        async with self._shared.db.transaction() as tx:
            await self._require_grantable(tx, call.caller, names)
            found = await store.claimed(tx, account.service_account_id)
            if found is not None:
                return pb.CreateServiceAccountResponse(service_account=await self._same(tx, found, request))
            tx.add(account)
            await tx.flush()
            await store.set_roles(tx, account.service_account_id, names)
            await emit(tx, ServiceAccountCreated(service_account_id=str(account.service_account_id)))
        return pb.CreateServiceAccountResponse(service_account=to_pb(account, names))

    async def GetServiceAccount(
        self, request: pb.GetServiceAccountRequest, call: Call
    ) -> pb.GetServiceAccountResponse:
        async with self._shared.db.transaction() as tx:
            account = await store.get(tx, UUID(request.service_account_id))
            names = await store.names_of(tx, [account.service_account_id])
        message = to_pb(account, names[account.service_account_id])
        return pb.GetServiceAccountResponse(service_account=message)

    async def ListServiceAccounts(
        self, request: pb.ListServiceAccountsRequest, call: Call
    ) -> pb.ListServiceAccountsResponse:
        page = store.PAGES.page(request, self._shared.tools.settings.mesh_key)
        async with self._shared.db.transaction() as tx:
            rows, token = await store.page(tx, page)
            names = await store.names_of(tx, [row.service_account_id for row in rows])
        shown = [to_pb(row, names[row.service_account_id]) for row in rows]
        return pb.ListServiceAccountsResponse(service_accounts=shown, next_page_token=token)

    async def UpdateServiceAccount(
        self, request: pb.UpdateServiceAccountRequest, call: Call
    ) -> pb.UpdateServiceAccountResponse:
        names = sorted(request.roles)
        async with self._shared.db.transaction() as tx:
            account = await self._ruled(tx, call.caller, request.service_account_id)
            await self._require_grantable(tx, call.caller, names)
            if request.etag and request.etag != account.etag:
                raise EtagMismatch(current=account.etag, given=request.etag)
            account.name, account.description = request.name, request.description
            account.disabled = request.disabled
            account.changed(self._shared.clock.now())
            await store.set_roles(tx, account.service_account_id, names)
            await emit(tx, ServiceAccountUpdated(service_account_id=request.service_account_id))
        return pb.UpdateServiceAccountResponse(service_account=to_pb(account, names))

    async def DeleteServiceAccount(
        self, request: pb.DeleteServiceAccountRequest, call: Call
    ) -> pb.DeleteServiceAccountResponse:
        async with self._shared.db.transaction() as tx:
            account = await self._ruled(tx, call.caller, request.service_account_id)
            for key in await keys.good_ones(tx, account.service_account_id):
                await self._api_keys.revoke(tx, key)
            await tx.delete(account)
            await emit(tx, ServiceAccountDeleted(service_account_id=request.service_account_id))
        return pb.DeleteServiceAccountResponse()

    async def _ruled(self, tx: Tx, caller: Caller, service_account_id: str) -> ServiceAccount:
        """The account, locked, if the caller may do all that it may. Raises BeyondOwnPermissions."""
        account = await store.get(tx, UUID(service_account_id), lock=True)
        require_within(caller.scope, union(await store.roles_of(tx, account.service_account_id)))
        return account

    async def _require_grantable(self, tx: Tx, caller: Caller, names: Sequence[str]) -> None:
        """Nobody hands on what they lack. Raises RoleNotFound, BeyondOwnPermissions."""
        require_within(caller.scope, union([await roles.get(tx, name) for name in names]))

    async def _same(
        self, tx: Tx, found: ServiceAccount, request: pb.CreateServiceAccountRequest
    ) -> pb.ServiceAccount:
        """The answer to a repeat. Raises ServiceAccountExists when it asks for another one."""
        names = (await store.names_of(tx, [found.service_account_id]))[found.service_account_id]
        wanted = (request.name, request.description, sorted(request.roles))
        if (found.name, found.description, names) != wanted:
            raise rules.ServiceAccountExists(service_account_id=found.service_account_id)
        return to_pb(found, names)


def to_pb(account: ServiceAccount, names: Sequence[str]) -> pb.ServiceAccount:
    message = pb.ServiceAccount(
        service_account_id=str(account.service_account_id),
        name=account.name,
        description=account.description,
        roles=names,
        disabled=account.disabled,
        etag=account.etag,
    )
    message.create_time.FromDatetime(account.created_at)
    message.update_time.FromDatetime(account.updated_at)
    return message
