"""weft.payment.v1.SandboxService."""

from html import escape
from urllib.parse import parse_qs
from uuid import UUID

from google.api.httpbody_pb2 import HttpBody

from services.chassis.method import Call
from services.payment.domain.intent import UnknownIntent
from services.payment.domain.remote import DisputeState
from services.payment.domain.sandbox import SandboxOff
from services.payment.gateways.sandbox import Sandbox
from services.payment.service.shared import Shared
from services.payment.store import intent as store
from weft.payment.v1 import sandbox_pb2 as pb
from weft.payment.v1.sandbox_pb2_grpc import SandboxServiceServicer

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox bank</title>
<body><h1>Sandbox bank</h1>{body}</body></html>"""
ASK = """<p>Do you want to pay? No money moves here.</p>
<form method="post" action="/v1/sandbox-payments/{ref}:authenticate">
<button name="outcome" value="success">Yes</button>
<button name="outcome" value="failure">No</button></form>"""
DISPUTES = {
    pb.SANDBOX_DISPUTE_OPEN: DisputeState.OPEN,
    pb.SANDBOX_DISPUTE_WON: DisputeState.WON,
    pb.SANDBOX_DISPUTE_LOST: DisputeState.LOST,
}


class Sandboxes(SandboxServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared, self._db, self._clock = shared, shared.db, shared.clock

    async def GetAuthenticationPage(
        self, request: pb.GetAuthenticationPageRequest, call: Call
    ) -> pb.GetAuthenticationPageResponse:
        self._sandbox()
        page = _page(ASK.format(ref=request.payment_ref))
        return pb.GetAuthenticationPageResponse(page=page)

    async def CompleteAuthentication(
        self, request: pb.CompleteAuthenticationRequest, call: Call
    ) -> pb.CompleteAuthenticationResponse:
        sandbox, now = self._sandbox(), self._clock.now()
        outcome = parse_qs(request.form.data.decode("utf-8", "replace")).get("outcome", [""])[0]
        back = ""
        async with self._db.transaction() as tx:
            intent = await store.of_gateway(tx, sandbox.name, request.payment_ref)
        if intent is not None:
            succeed = outcome == "success"
            await sandbox.authenticate(request.payment_ref, succeed=succeed, capture=intent.capture)
            back = intent.return_url
            async with self._db.transaction() as tx:
                (await store.get(tx, intent.intent_id, lock=True)).look_at = now
        link = f'<p><a href="{escape(back)}">Go on</a></p>' if back else "<p>You can close this page.</p>"
        return pb.CompleteAuthenticationResponse(page=_page(link))

    async def SetDispute(self, request: pb.SetDisputeRequest, call: Call) -> pb.SetDisputeResponse:
        sandbox, intent_id = self._sandbox(), UUID(request.intent_id)
        async with self._db.transaction() as tx:
            intent = await store.get(tx, intent_id)
        state = DISPUTES[request.dispute]
        if intent.gateway != sandbox.name or not await sandbox.dispute(intent.gateway_ref, state):
            raise UnknownIntent(intent_id=intent_id)
        await self._shared.payer.look(intent_id)
        return pb.SetDisputeResponse()

    def _sandbox(self) -> Sandbox:
        """Raises SandboxOff."""
        found = self._shared.means.gateways.get(Sandbox.name)
        if not isinstance(found, Sandbox):
            raise SandboxOff
        return found


def _page(body: str) -> HttpBody:
    return HttpBody(content_type="text/html; charset=utf-8", data=PAGE.format(body=body).encode())
