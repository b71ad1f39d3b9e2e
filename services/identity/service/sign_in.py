"""weft.identity.v1.SignInService."""

from uuid import UUID

from services.chassis.db import Tx
from services.chassis.method import Call
from services.identity.domain.code import CodeRefused, TicketRefused
from services.identity.domain.second_factor import SecondStepRefused
from services.identity.domain.session import RefreshRefused, Session, SessionEnded, granted
from services.identity.domain.token import Grant, TokenPair
from services.identity.domain.user import sign_in_key
from services.identity.service.journal import Entry
from services.identity.service.proving import Prover
from services.identity.service.registration import Registrations
from services.identity.service.second_step import SecondSteps
from services.identity.service.shared import Shared, device
from services.identity.store import credential as credentials, session as sessions, user as users
from weft.identity.v1 import sign_in_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.events_pb2 import RevocationCause, SteppedUp
from weft.identity.v1.sign_in_pb2_grpc import SignInServiceServicer


class SignIn(SignInServiceServicer):
    def __init__(self, shared: Shared, prover: Prover, steps: SecondSteps) -> None:
        self._shared, self._prover, self._steps = shared, prover, steps
        self._registrations = Registrations(shared)

    async def Register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:
        response = pb.RegisterResponse()
        response.expire_time.FromDatetime(await self._registrations.ask(request))
        return response

    async def ConfirmRegistration(
        self, request: pb.ConfirmRegistrationRequest, call: Call
    ) -> pb.ConfirmRegistrationResponse:
        user_id = await self._registrations.confirm(request.token)
        return pb.ConfirmRegistrationResponse(user_id=str(user_id))

    async def SignIn(self, request: pb.SignInRequest, call: Call) -> pb.SignInResponse:
        proof = await self._prover.prove(sign_in_key(request.email), request.password, call.peer())
        here = device(call, request.device_name)
        async with self._shared.db.transaction() as tx:
            await self._prover.settle(tx, proof)
            if await credentials.has_second_factor(tx, proof.person.user_id):
                return pb.SignInResponse(second_step=await self._steps.begin(tx, proof.person, here))
            grant = Grant(
                subject=str(proof.person.user_id),
                auth_time=self._shared.clock.now(),
                amr=("pwd",),
                device=here,
                lifetime_s=self._shared.settings.session_days * 86_400,
            )
            return pb.SignInResponse(tokens=tokens_to_pb(await self._shared.issuer.tokens(tx, grant)))

    async def CompleteSignIn(
        self, request: pb.CompleteSignInRequest, call: Call
    ) -> pb.CompleteSignInResponse:
        _, person = await self._steps.admit(request.ticket)
        try:
            async with self._shared.db.transaction() as tx:
                if request.WhichOneof("proof") == "totp_code":
                    await self._steps.use_totp(tx, person, request.totp_code)
                else:
                    await self._steps.use_recovery_code(tx, person, request.recovery_code)
                pair = await self._steps.finish(tx, request.ticket, person, "otp")
        except SecondStepRefused:
            self._steps.note_failure(person, call.peer())
            raise
        except CodeRefused:
            raise TicketRefused from None
        return pb.CompleteSignInResponse(tokens=tokens_to_pb(pair))

    async def StepUp(self, request: pb.StepUpRequest, call: Call) -> pb.StepUpResponse:
        proof, now = await self._prover.prove_caller(request.password, call), self._shared.clock.now()
        async with self._shared.db.transaction() as tx:
            await self._prover.settle(tx, proof)
            await users.hold(tx, call.caller.subject)
            session = await sessions.lock(tx, UUID(call.caller.session)) if call.caller.session else None
            if session is None or not session.open(now):
                raise SessionEnded
            second = await credentials.has_second_factor(tx, proof.person.user_id)
            if second:
                await self._steps.use_totp(tx, proof.person, request.totp_code)
            session.auth_time, session.amr = now, ["pwd", "otp", "mfa"] if second else ["pwd"]
            pair = await self._step_up(tx, session)
        return pb.StepUpResponse(tokens=tokens_to_pb(pair))

    async def Refresh(self, request: pb.RefreshRequest, call: Call) -> pb.RefreshResponse:
        async with self._shared.db.transaction() as tx:
            pair = await self._shared.issuer.refresh(tx, request.refresh_token)
        if pair is None:
            raise RefreshRefused
        return pb.RefreshResponse(tokens=tokens_to_pb(pair))

    async def SignOut(self, request: pb.SignOutRequest, call: Call) -> pb.SignOutResponse:
        if call.caller.session:
            async with self._shared.db.transaction() as tx:
                await users.hold(tx, call.caller.subject if call.caller.kind == "user" else "")
                session = await sessions.lock(tx, UUID(call.caller.session))
                if session is not None:
                    await self._shared.issuer.end(tx, session, RevocationCause.REVOCATION_CAUSE_SIGNED_OUT)
        return pb.SignOutResponse()

    async def _step_up(self, tx: Tx, session: Session) -> TokenPair:
        user_id = UUID(session.subject)
        event = SteppedUp(user_id=session.subject, session_id=str(session.session_id))
        await self._shared.journal.write(
            tx, Entry(user_id=user_id, kind=ActivityKind.ACTIVITY_KIND_STEPPED_UP), event
        )
        await tx.flush()
        return await self._shared.issuer.tokens(tx, granted(session))


def tokens_to_pb(pair: TokenPair) -> pb.TokenPair:
    message = pb.TokenPair(
        access_token=pair.access,
        refresh_token=pair.refresh,
        token_type="Bearer",
        session_id=str(pair.session_id),
        user_id=pair.subject,
    )
    message.expires_in.FromSeconds(pair.expires_in_s)
    message.session_expire_time.FromDatetime(pair.session_expires_at)
    return message
