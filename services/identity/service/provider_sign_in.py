"""A sign-in by an outside provider: begun here, proven there, ended here in the browser that began it."""

import base64
import hmac
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.db import Tx
from services.identity.domain import code as codes, provider as rules, user as people
from services.identity.domain.code import CodeRefused, OneUseCode, Purpose
from services.identity.domain.provider import (
    Flow,
    LinkedElsewhere,
    NoLinkedAccount,
    Outsider,
    Provider,
    ProviderLink,
    ProviderNotFound,
    ProviderSignInRefused,
)
from services.identity.domain.token import Device, Grant
from services.identity.domain.user import ACTIVE, EmailRefused, Person, email_key, name_rule
from services.identity.federation_settings import FederationSettings
from services.identity.service.journal import Entry
from services.identity.service.outside import Outside
from services.identity.service.registration import open_account
from services.identity.service.second_step import SecondSteps
from services.identity.service.shared import Shared
from services.identity.service.sign_in import tokens_to_pb
from services.identity.store import (
    code as code_store,
    credential as credentials,
    provider as store,
    user as users,
)
from weft.identity.v1 import provider_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.credential_events_pb2 import AccountLinked
from weft.identity.v1.events_pb2 import UserOrigin

UNNAMED = "Somebody"  # Until they say otherwise.


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Where to send the person, and what their browser keeps."""

    redirect_uri: str
    binding: str = field(repr=False)
    expires_at: datetime


class ProviderSignIns:
    """Begins and ends them. What must come back is derived from the flow's id, so it is not stored."""

    def __init__(
        self, shared: Shared, steps: SecondSteps, outside: Outside, settings: FederationSettings
    ) -> None:
        self._shared, self._steps, self._outside = shared, steps, outside
        self._callback = shared.tools.settings.edge_url.rstrip("/") + settings.provider_callback

    async def begin(self, provider_id: UUID, linking: str) -> Begun:
        """`linking` is the person who adds the provider to their account. Empty: somebody signs in.

        Raises ProviderNotFound, ProviderAway.
        """
        async with self._shared.db.transaction() as tx:
            provider = await store.offered(tx, provider_id)
        document = await self._outside.document(provider)
        now = self._shared.clock.now()
        purpose = Purpose(
            name=rules.FLOW,
            subject=linking,
            expires_at=now + timedelta(seconds=rules.FLOW_S),
            data={"provider_id": str(provider_id)},
        )
        made = codes.make(self._shared.sealer, uuid7(now), purpose, now)
        async with self._shared.db.transaction() as tx:
            tx.add(made.row)
        flow = self._flow(made.row, made.token)
        url = rules.authorization_url(str(document["authorization_endpoint"]), provider, flow, self._callback)
        return Begun(
            redirect_uri=url, binding=self._derived("binding", made.row), expires_at=made.row.expires_at
        )

    async def complete(
        self, request: pb.CompleteProviderSignInRequest, here: Device
    ) -> pb.CompleteProviderSignInResponse:
        """Raises ProviderSignInRefused, NoLinkedAccount, LinkedElsewhere, ProviderAway."""
        flow, provider = await self._spent(request)
        outsider = await self._proven(request, flow, provider)
        async with self._shared.db.transaction() as tx:
            if flow.subject:
                link = await self._linked(tx, provider, outsider, UUID(flow.subject))
                return pb.CompleteProviderSignInResponse(link=link_to_pb(link, provider))
            person = await self._person(tx, provider, outsider)
            if await credentials.has_second_factor(tx, person.user_id):
                step = await self._steps.begin(tx, person, here)
                return pb.CompleteProviderSignInResponse(second_step=step)
            grant = Grant(
                subject=str(person.user_id),
                auth_time=self._shared.clock.now(),
                amr=("fed",),
                device=here,
                lifetime_s=self._shared.settings.session_days * 86_400,
            )
            pair = await self._shared.issuer.tokens(tx, grant)
        return pb.CompleteProviderSignInResponse(tokens=tokens_to_pb(pair))

    async def _spent(self, request: pb.CompleteProviderSignInRequest) -> tuple[OneUseCode, Provider]:
        """The flow, which is over whatever comes of it. Raises ProviderSignInRefused."""
        async with self._shared.db.transaction() as tx:
            try:
                now = self._shared.clock.now()
                flow = await code_store.spend(tx, rules.FLOW, request.state, now)
                provider = await store.offered(tx, UUID(flow.data["provider_id"]))
            except (CodeRefused, ProviderNotFound):
                raise ProviderSignInRefused from None
        if not hmac.compare_digest(self._derived("binding", flow).encode(), request.binding.encode()):
            raise ProviderSignInRefused
        return flow, provider

    async def _proven(
        self, request: pb.CompleteProviderSignInRequest, flow: OneUseCode, provider: Provider
    ) -> Outsider:
        document = await self._outside.document(provider)
        says_who = document.get("authorization_response_iss_parameter_supported") is True
        if request.iss != provider.issuer and (request.iss or says_who):  # RFC 9207 2.4: no mix-up.
            raise ProviderSignInRefused
        form = {
            "grant_type": "authorization_code",
            "code": request.code,
            "redirect_uri": self._callback,
            "code_verifier": self._derived("verifier", flow),
        }
        return await self._outside.exchanged(
            provider, self._secret(provider), form, self._derived("nonce", flow)
        )

    async def _person(self, tx: Tx, provider: Provider, outsider: Outsider) -> Person:
        """Whom the outside account signs in. Raises NoLinkedAccount, ProviderSignInRefused."""
        link = await store.lock_link(tx, provider.provider_id, outsider.subject)
        if link is not None:
            person = await users.get(tx, link.user_id)
        else:
            person = await self._found(tx, provider, outsider) or await self._new(tx, provider, outsider)
            await self._add_link(tx, provider, outsider, person.user_id)
        if person.state != ACTIVE:
            raise ProviderSignInRefused
        return person

    async def _found(self, tx: Tx, provider: Provider, outsider: Outsider) -> Person | None:
        """The account at the address, if the provider verified it and is trusted to know.

        Our own account's owner proved the address too, so both are the same person.
        """
        if not outsider.email:
            return None
        person = await users.by_key(tx, email_key(outsider.email))
        if person is None:
            return None
        if not provider.link_by_email or person.state != ACTIVE:
            raise NoLinkedAccount
        if await store.link_of(tx, provider.provider_id, person.user_id) is not None:
            raise NoLinkedAccount
        return person

    async def _new(self, tx: Tx, provider: Provider, outsider: Outsider) -> Person:
        """Raises NoLinkedAccount."""
        if not provider.sign_up or not outsider.email:
            raise NoLinkedAccount
        try:
            email = people.checked_email(outsider.email, self._shared.lists.disposable_domains)
        except EmailRefused:
            raise NoLinkedAccount from None
        if not await users.claim_email(tx, email):
            raise NoLinkedAccount
        profile = {"display_name": _name(outsider), "locale": "", "zone": ""}
        now = self._shared.clock.now()
        person = people.created(uuid7(now), email, profile, now)
        await open_account(tx, self._shared, person, UserOrigin.USER_ORIGIN_EXTERNAL)
        return person

    async def _linked(self, tx: Tx, provider: Provider, outsider: Outsider, user_id: UUID) -> ProviderLink:
        """Raises LinkedElsewhere."""
        if not await users.active(tx, user_id):
            raise ProviderSignInRefused
        link = await store.lock_link(tx, provider.provider_id, outsider.subject)
        if link is not None and link.user_id == user_id:
            return link
        if link is not None or await store.link_of(tx, provider.provider_id, user_id) is not None:
            raise LinkedElsewhere
        return await self._add_link(tx, provider, outsider, user_id)

    async def _add_link(self, tx: Tx, provider: Provider, outsider: Outsider, user_id: UUID) -> ProviderLink:
        link = ProviderLink(
            provider_id=provider.provider_id,
            subject=outsider.subject,
            user_id=user_id,
            created_at=self._shared.clock.now(),
        )
        tx.add(link)
        await tx.flush()
        entry = Entry(user_id=user_id, kind=ActivityKind.ACTIVITY_KIND_EXTERNAL_LINKED, about=provider.name)
        event = AccountLinked(user_id=str(user_id), provider_id=str(provider.provider_id))
        await self._shared.journal.write(tx, entry, event)
        return link

    def _flow(self, row: OneUseCode, token: str) -> Flow:
        return Flow(state=token, nonce=self._derived("nonce", row), verifier=self._derived("verifier", row))

    def _derived(self, what: str, row: OneUseCode) -> str:
        """43 characters that only we can make of the flow's id."""
        secret = self._shared.sealer.mac(f"provider_{what}", row.code_id.bytes)
        return base64.urlsafe_b64encode(secret).decode().rstrip("=")

    def _secret(self, provider: Provider) -> str:
        if provider.sealed_secret is None:
            return ""
        return self._shared.sealer.open(provider.sealed_secret, provider.sealed_as).decode()


def _name(outsider: Outsider) -> str:
    """The provider's name for the person, if it keeps the rules of ours; else of their address."""
    offers = (outsider.name, outsider.email.partition("@")[0])
    cleaned = [unicodedata.normalize("NFC", " ".join(offer.split())) for offer in offers]
    return next((name for name in cleaned if not name_rule(name)), UNNAMED)


def link_to_pb(link: ProviderLink, provider: Provider) -> pb.ProviderLink:
    message = pb.ProviderLink(provider_id=str(provider.provider_id), provider_name=provider.name)
    message.create_time.FromDatetime(link.created_at)
    return message
