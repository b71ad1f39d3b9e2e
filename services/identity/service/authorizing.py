"""The authorization endpoint's decisions: who has to do what before a code is given (OIDC Core 3.1.2)."""

from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.chassis.method import Call
from services.identity.domain import code as codes, oauth as rules
from services.identity.domain.code import Purpose
from services.identity.domain.oauth import Asked, Authorization, AuthorizationRefused, RedirectedError
from services.identity.domain.oauth_client import (
    CODE,
    OAuthClient,
    may_ask,
    redirect_known,
    remembers_consent,
)
from services.identity.domain.session import Session
from services.identity.service.consenting import Consents
from services.identity.service.shared import Shared
from services.identity.service.token_reading import TokenReader
from services.identity.store import oauth as store, session as sessions
from weft.identity.v1 import oauth_pb2 as pb

GRANT, DENY = pb.ConsentDecision.CONSENT_DECISION_GRANT, pb.ConsentDecision.CONSENT_DECISION_DENY


class Authorizer:
    """Answers Authorize. Keeps nothing between two requests but what a person decided."""

    def __init__(self, shared: Shared, consents: Consents, reader: TokenReader) -> None:
        self._shared, self._consents, self._reader = shared, consents, reader

    async def answer(self, request: pb.AuthorizeRequest, call: Call) -> pb.AuthorizeResponse:
        """Raises AuthorizationRefused, FirstPartyOnly."""
        asked = rules.asked(request.query)
        async with self._shared.db.transaction() as tx:
            client = await self._believed(tx, asked)
            session = await self._session(tx, call)
            try:
                wanted = rules.checked(asked)
                return await self._next(tx, client, wanted, session, request.decision)
            except RedirectedError as error:
                return self._sent_back(asked, {"error": error.error, "error_description": error.description})

    async def _believed(self, tx: Tx, asked: Asked) -> OAuthClient:
        """The client, once it may have people sent to the redirect URI. Raises AuthorizationRefused."""
        client = await store.find(tx, asked.client_id)
        if client is None or client.disabled:
            raise AuthorizationRefused(field="query", rule="client_id")
        if not redirect_known(client.redirect_uris, asked.redirect_uri):
            raise AuthorizationRefused(field="query", rule="redirect_uri")
        return client

    async def _session(self, tx: Tx, call: Call) -> Session | None:
        """The person's own open session; an application's token is refused here. Raises FirstPartyOnly."""
        if not call.caller.subject:
            return None
        require_first_party(call)
        session = await sessions.lock(tx, UUID(call.caller.session))
        return session if session is not None and session.open(self._shared.clock.now()) else None

    async def _next(
        self,
        tx: Tx,
        client: OAuthClient,
        wanted: Authorization,
        session: Session | None,
        decision: "pb.ConsentDecision.ValueType",
    ) -> pb.AuthorizeResponse:
        """Raises RedirectedError."""
        if CODE not in client.grant_types:
            raise RedirectedError("unauthorized_client")
        if not may_ask(client, wanted.scopes):
            raise RedirectedError("invalid_scope")
        if session is None or not self._proven_enough(session, wanted):
            if wanted.silent:
                raise RedirectedError("login_required")
            hint = pb.SignInWanted(client_name=client.name, login_hint=wanted.login_hint)
            return pb.AuthorizeResponse(sign_in=hint)
        if not await self._agreed(tx, client, wanted, session, decision):
            return pb.AuthorizeResponse(consent=_consent(client, wanted))
        return self._sent_back_with_code(tx, client, wanted, session)

    def _proven_enough(self, session: Session, wanted: Authorization) -> bool:
        """Whether this sign-in is of the person meant, and recent enough."""
        if wanted.id_token_hint and self._reader.hinted(wanted.id_token_hint) != session.subject:
            return False
        ages = [wanted.max_age_s] if wanted.max_age_s is not None else []
        ages += [rules.LOGIN_S] if "login" in wanted.prompts else []
        age = self._shared.clock.now() - session.auth_time
        return all(age <= timedelta(seconds=max_age) for max_age in ages)

    async def _agreed(
        self,
        tx: Tx,
        client: OAuthClient,
        wanted: Authorization,
        session: Session,
        decision: "pb.ConsentDecision.ValueType",
    ) -> bool:
        """Whether the person lets the client in. Raises RedirectedError when they say no."""
        if decision == DENY:
            raise RedirectedError("access_denied")
        user_id = UUID(session.subject)
        if decision == GRANT and not wanted.silent:
            await self._consents.grant(tx, user_id, client, wanted.scopes)
            return True
        if client.trusted and "consent" not in wanted.prompts:
            return True
        asks_anew = "consent" in wanted.prompts or not remembers_consent(client, wanted.redirect_uri)
        if not asks_anew and await self._consents.covers(tx, user_id, client, wanted.scopes):
            return True
        if wanted.silent:
            raise RedirectedError("consent_required")
        return False

    def _sent_back_with_code(
        self, tx: Tx, client: OAuthClient, wanted: Authorization, session: Session
    ) -> pb.AuthorizeResponse:
        now = self._shared.clock.now()
        purpose = Purpose(
            name=rules.CODE,
            subject=session.subject,
            expires_at=now + timedelta(seconds=rules.CODE_S),
            data={
                "client_id": client.client_id,
                "redirect_uri": wanted.redirect_uri,
                "scopes": list(wanted.scopes),
                "nonce": wanted.nonce,
                "challenge": wanted.challenge,
                "amr": list(session.amr),
                "auth_time": _text(session.auth_time),
                "session_id": str(session.session_id),
            },
        )
        made = codes.make(self._shared.sealer, uuid7(now), purpose, now)
        tx.add(made.row)
        uri = self._sent(wanted.redirect_uri, {"code": made.token, "state": wanted.state})
        return pb.AuthorizeResponse(redirect_uri=uri)

    def _sent_back(self, asked: Asked, answer: dict[str, str]) -> pb.AuthorizeResponse:
        state = asked.state if len(asked.state) <= rules.STATE_CHARS_MAX else ""
        return pb.AuthorizeResponse(redirect_uri=self._sent(asked.redirect_uri, {**answer, "state": state}))

    def _sent(self, redirect_uri: str, answer: dict[str, str]) -> str:
        """RFC 9207: each answer says whose it is."""
        return rules.redirected(redirect_uri, {**answer, "iss": self._shared.tools.settings.issuer})


def require_first_party(call: Call) -> None:
    """A person, at a sign-in of their own: no application lets another in. Raises FirstPartyOnly."""
    caller = call.caller
    if caller.kind != "user" or not caller.first_party or caller.acting or not caller.session:
        raise rules.FirstPartyOnly


def _consent(client: OAuthClient, wanted: Authorization) -> pb.ConsentWanted:
    return pb.ConsentWanted(
        client_id=client.client_id,
        client_name=client.name,
        redirect_host=rules.host_of(wanted.redirect_uri),
        scopes=wanted.scopes,
    )


def _text(time: datetime) -> str:
    return time.isoformat()
