"""weft.identity.v1.SessionService."""

from uuid import UUID

from services.chassis.caller import Caller
from services.chassis.db import Tx
from services.chassis.method import Call
from services.identity.domain.role import require_within
from services.identity.domain.session import (
    IMPERSONATION_S,
    SelfImpersonation,
    Session,
    lendable,
)
from services.identity.domain.token import Grant
from services.identity.domain.user import ACTIVE, UserNotActive
from services.identity.service.shared import Shared, device, own_id
from services.identity.service.sign_in import tokens_to_pb
from services.identity.store import session as store, user as users
from weft.identity.v1 import session_pb2 as pb
from weft.identity.v1.events_pb2 import RevocationCause
from weft.identity.v1.session_pb2_grpc import SessionServiceServicer

REVOKED = RevocationCause.REVOCATION_CAUSE_REVOKED


class Sessions(SessionServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ListSessions(self, request: pb.ListSessionsRequest, call: Call) -> pb.ListSessionsResponse:
        page = store.LISTING.page(request, self._shared.tools.settings.mesh_key)
        async with self._shared.db.transaction() as tx:
            rows = await store.page(tx, request.user_id, self._shared.clock.now(), page)
        found, token = page.cut(rows)
        listed = [session_to_pb(session, call.caller.session) for session in found]
        return pb.ListSessionsResponse(sessions=listed, next_page_token=token)

    async def RevokeSession(self, request: pb.RevokeSessionRequest, call: Call) -> pb.RevokeSessionResponse:
        async with self._shared.db.transaction() as tx:
            await users.hold(tx, request.user_id)
            session = await store.own(tx, request.user_id, UUID(request.session_id))
            await self._shared.issuer.end(tx, session, REVOKED)
        return pb.RevokeSessionResponse()

    async def RevokeSessions(
        self, request: pb.RevokeSessionsRequest, call: Call
    ) -> pb.RevokeSessionsResponse:
        keep = call.caller.session if request.keep_current else ""
        async with self._shared.db.transaction() as tx:
            revoked = await self._shared.issuer.end_all(tx, request.user_id, REVOKED, keep)
        return pb.RevokeSessionsResponse(revoked=revoked)

    async def CheckSession(self, request: pb.CheckSessionRequest, call: Call) -> pb.CheckSessionResponse:
        now = self._shared.clock.now()
        found = await store.check(self._shared.db, UUID(request.session_id), now)
        if found is None:
            return pb.CheckSessionResponse(open=False)
        return pb.CheckSessionResponse(
            open=True,
            user_id=found.subject,
            permissions=sorted(found.permissions),
            impersonator_id=found.acting,
        )

    async def Impersonate(self, request: pb.ImpersonateRequest, call: Call) -> pb.ImpersonateResponse:
        if request.user_id == str(own_id(call)):
            raise SelfImpersonation(field="user_id")
        async with self._shared.db.transaction() as tx:
            person = await users.living(tx, UUID(request.user_id))
            if person.state != ACTIVE:
                raise UserNotActive(user_id=request.user_id)
            scope = await self._borrowed(tx, call.caller, request)
            grant = Grant(
                subject=request.user_id,
                scope=scope,
                auth_time=self._shared.clock.now(),
                acting=call.caller.subject,
                device=device(call),
                refreshable=False,
                lifetime_s=request.duration.seconds or IMPERSONATION_S,
                reason=request.reason,
            )
            pair = await self._shared.issuer.tokens(tx, grant)
        return pb.ImpersonateResponse(tokens=tokens_to_pb(pair))

    async def _borrowed(self, tx: Tx, caller: Caller, request: pb.ImpersonateRequest) -> frozenset[str]:
        """What the impersonated session may do. Raises BeyondOwnPermissions."""
        whole = await self._shared.issuer.permissions(tx, request.user_id)
        require_within(caller.scope, whole)
        borrowed = lendable(whole)
        wanted = frozenset(request.permissions)
        require_within(borrowed, wanted)
        return wanted or borrowed


def session_to_pb(session: Session, current: str) -> pb.Session:
    message = pb.Session(
        session_id=str(session.session_id),
        user_id=session.subject,
        device=pb.Device(name=session.device_name, user_agent=session.user_agent, address=session.address),
        amr=session.amr,
        client_id=session.client_id,
        current=str(session.session_id) == current,
        impersonator_id=session.acting,
        impersonation_reason=session.reason,
    )
    message.create_time.FromDatetime(session.created_at)
    message.last_use_time.FromDatetime(session.last_used_at)
    message.expire_time.FromDatetime(session.expires_at)
    return message
