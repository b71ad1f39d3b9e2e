"""weft.identity.v1.RoleService."""

from uuid import UUID

from services.chassis.caller import Caller
from services.chassis.db import Tx
from services.chassis.events import emit
from services.chassis.masks import EtagMismatch
from services.chassis.method import Call
from services.identity.domain import role as rules
from services.identity.domain.role import ADMIN, EVERYONE, Role
from services.identity.service.governing import require_other_admin
from services.identity.service.journal import Entry
from services.identity.service.shared import Shared
from services.identity.store import role as store, user as users
from weft.identity.v1 import role_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import RoleCreated, RoleDeleted, RoleGranted, RoleRevoked, RoleUpdated
from weft.identity.v1.role_pb2_grpc import RoleServiceServicer


class Roles(RoleServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ListRoles(self, request: pb.ListRolesRequest, call: Call) -> pb.ListRolesResponse:
        async with self._shared.db.transaction() as tx:
            return pb.ListRolesResponse(roles=[to_pb(role) for role in await store.every(tx)])

    async def GetRole(self, request: pb.GetRoleRequest, call: Call) -> pb.GetRoleResponse:
        async with self._shared.db.transaction() as tx:
            return pb.GetRoleResponse(role=to_pb(await store.get(tx, request.role)))

    async def CreateRole(self, request: pb.CreateRoleRequest, call: Call) -> pb.CreateRoleResponse:
        rules.require_within(call.caller.scope, request.permissions)
        async with self._shared.db.transaction() as tx:
            if not await store.claim(tx, request.role):
                raise rules.RoleExists(role=request.role)
            if await store.count(tx) >= rules.ROLES_MAX:
                raise rules.TooManyRoles(max=rules.ROLES_MAX)
            role = Role(
                role=request.role,
                description=request.description,
                permissions=list(request.permissions),
                built_in=False,
                updated_at=self._shared.clock.now(),
            )
            tx.add(role)
            await emit(tx, RoleCreated(role=role.role))
        return pb.CreateRoleResponse(role=to_pb(role))

    async def UpdateRole(self, request: pb.UpdateRoleRequest, call: Call) -> pb.UpdateRoleResponse:
        async with self._shared.db.transaction() as tx:
            role = await self._changeable(tx, call.caller, request.role)
            rules.require_within(call.caller.scope, request.permissions)
            if request.etag and request.etag != role.etag:
                raise EtagMismatch(current=role.etag, given=request.etag)
            role.description, role.permissions = request.description, list(request.permissions)
            role.updated_at = self._shared.clock.now()
            await emit(tx, RoleUpdated(role=role.role))
        return pb.UpdateRoleResponse(role=to_pb(role))

    async def DeleteRole(self, request: pb.DeleteRoleRequest, call: Call) -> pb.DeleteRoleResponse:
        async with self._shared.db.transaction() as tx:
            role = await self._changeable(tx, call.caller, request.role)
            for user_id in await store.holders(tx, role.role):
                await revoke_role(tx, self._shared, user_id, role.role)
            await tx.delete(role)
            await emit(tx, RoleDeleted(role=role.role))
        return pb.DeleteRoleResponse()

    async def GrantRole(self, request: pb.GrantRoleRequest, call: Call) -> pb.GrantRoleResponse:
        user_id = UUID(request.user_id)
        async with self._shared.db.transaction() as tx:
            await users.living(tx, user_id, lock=True)
            await grant_role(tx, self._shared, call.caller, user_id, request.role)
        return pb.GrantRoleResponse()

    async def RevokeRole(self, request: pb.RevokeRoleRequest, call: Call) -> pb.RevokeRoleResponse:
        user_id = UUID(request.user_id)
        async with self._shared.db.transaction() as tx:
            await users.living(tx, user_id, lock=True)
            role = await store.get(tx, request.role)
            if role.role == EVERYONE:
                raise rules.RoleOfEveryone(role=role.role)
            rules.require_within(call.caller.scope, role.permissions)
            if role.role == ADMIN:
                await require_other_admin(tx, user_id)
            await revoke_role(tx, self._shared, user_id, role.role)
        return pb.RevokeRoleResponse()

    async def _changeable(self, tx: Tx, caller: Caller, name: str) -> Role:
        """Locked. Raises RoleNotFound, RoleBuiltIn, BeyondOwnPermissions."""
        role = await store.get(tx, name, lock=True)
        if role.built_in:
            raise rules.RoleBuiltIn(role=name)
        rules.require_within(caller.scope, role.permissions)
        return role


async def grant_role(tx: Tx, shared: Shared, caller: Caller, user_id: UUID, name: str) -> None:
    """Idempotent. Raises RoleNotFound, BeyondOwnPermissions."""
    role = await store.get(tx, name)
    rules.require_within(caller.scope, role.permissions)
    if name == EVERYONE or not await store.grant(tx, user_id, name, shared.clock.now()):
        return
    entry = Entry(user_id=user_id, kind=ActivityKind.ACTIVITY_KIND_ROLE_GRANTED, about=name)
    await shared.journal.write(tx, entry, RoleGranted(user_id=str(user_id), role=name))


async def revoke_role(tx: Tx, shared: Shared, user_id: UUID, name: str) -> None:
    """Idempotent."""
    if not await store.take(tx, user_id, name):
        return
    entry = Entry(user_id=user_id, kind=ActivityKind.ACTIVITY_KIND_ROLE_REVOKED, about=name)
    await shared.journal.write(tx, entry, RoleRevoked(user_id=str(user_id), role=name))


def to_pb(role: Role) -> pb.Role:
    message = pb.Role(
        role=role.role,
        description=role.description,
        permissions=sorted(role.permissions),
        built_in=role.built_in,
        etag=role.etag,
    )
    message.update_time.FromDatetime(role.updated_at)
    return message
