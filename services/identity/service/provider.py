"""weft.identity.v1.ProviderService: its keeping; the sign-in itself is provider_sign_in's."""

from uuid import UUID

from services.chassis.clock import uuid7
from services.chassis.events import emit
from services.chassis.masks import EtagMismatch
from services.chassis.method import Call
from services.identity.domain import provider as rules
from services.identity.domain.provider import Provider
from services.identity.service.journal import Entry
from services.identity.service.provider_sign_in import ProviderSignIns
from services.identity.service.shared import Shared, device, own_id
from services.identity.store import provider as store
from weft.identity.v1 import provider_pb2 as pb
from weft.identity.v1.activity_pb2 import ActivityKind
from weft.identity.v1.credential_events_pb2 import (
    AccountUnlinked,
    ProviderCreated,
    ProviderDeleted,
    ProviderUpdated,
)
from weft.identity.v1.provider_pb2_grpc import ProviderServiceServicer


class Providers(ProviderServiceServicer):
    def __init__(self, shared: Shared, sign_ins: ProviderSignIns) -> None:
        self._shared, self._sign_ins = shared, sign_ins

    async def CreateProvider(
        self, request: pb.CreateProviderRequest, call: Call
    ) -> pb.CreateProviderResponse:
        settings, now = request.settings, self._shared.clock.now()
        rules.check_issuer(settings.issuer, self._shared.tools.settings.development)
        provider = Provider(
            provider_id=uuid7(now), issuer=settings.issuer, revision=1, created_at=now, updated_at=now
        )
        _describe(provider, settings)
        self._seal(provider, request.client_secret)
        async with self._shared.db.transaction() as tx:
            await store.require_room(tx, provider.issuer, provider.client_id)
            tx.add(provider)
            await emit(tx, ProviderCreated(provider_id=str(provider.provider_id)))
        return pb.CreateProviderResponse(provider=to_pb(provider))

    async def GetProvider(self, request: pb.GetProviderRequest, call: Call) -> pb.GetProviderResponse:
        async with self._shared.db.transaction() as tx:
            return pb.GetProviderResponse(provider=to_pb(await store.get(tx, UUID(request.provider_id))))

    async def ListProviders(self, request: pb.ListProvidersRequest, call: Call) -> pb.ListProvidersResponse:
        async with self._shared.db.transaction() as tx:
            return pb.ListProvidersResponse(providers=map(to_pb, await store.every(tx)))

    async def ListSignInProviders(
        self, request: pb.ListSignInProvidersRequest, call: Call
    ) -> pb.ListSignInProvidersResponse:
        async with self._shared.db.transaction() as tx:
            found = await store.every(tx)
        offered = [
            pb.SignInProvider(provider_id=str(each.provider_id), name=each.name)
            for each in found
            if not each.disabled
        ]
        return pb.ListSignInProvidersResponse(providers=offered)

    async def UpdateProvider(
        self, request: pb.UpdateProviderRequest, call: Call
    ) -> pb.UpdateProviderResponse:
        async with self._shared.db.transaction() as tx:
            provider = await store.get(tx, UUID(request.provider_id), lock=True)
            if request.settings.issuer != provider.issuer:
                raise rules.IssuerFixed
            if request.etag and request.etag != provider.etag:
                raise EtagMismatch(current=provider.etag, given=request.etag)
            _describe(provider, request.settings)
            if request.client_secret:
                self._seal(provider, request.client_secret)
            provider.revision, provider.updated_at = provider.revision + 1, self._shared.clock.now()
            await emit(tx, ProviderUpdated(provider_id=request.provider_id))
        return pb.UpdateProviderResponse(provider=to_pb(provider))

    async def DeleteProvider(
        self, request: pb.DeleteProviderRequest, call: Call
    ) -> pb.DeleteProviderResponse:
        async with self._shared.db.transaction() as tx:
            await tx.delete(await store.get(tx, UUID(request.provider_id), lock=True))
            await emit(tx, ProviderDeleted(provider_id=request.provider_id))
        return pb.DeleteProviderResponse()

    async def StartProviderSignIn(
        self, request: pb.StartProviderSignInRequest, call: Call
    ) -> pb.StartProviderSignInResponse:
        begun = await self._sign_ins.begin(UUID(request.provider_id), "")
        response = pb.StartProviderSignInResponse(redirect_uri=begun.redirect_uri, binding=begun.binding)
        response.expire_time.FromDatetime(begun.expires_at)
        return response

    async def StartProviderLink(
        self, request: pb.StartProviderLinkRequest, call: Call
    ) -> pb.StartProviderLinkResponse:
        begun = await self._sign_ins.begin(UUID(request.provider_id), str(own_id(call)))
        response = pb.StartProviderLinkResponse(redirect_uri=begun.redirect_uri, binding=begun.binding)
        response.expire_time.FromDatetime(begun.expires_at)
        return response

    async def CompleteProviderSignIn(
        self, request: pb.CompleteProviderSignInRequest, call: Call
    ) -> pb.CompleteProviderSignInResponse:
        return await self._sign_ins.complete(request, device(call, request.device_name))

    async def ListProviderLinks(
        self, request: pb.ListProviderLinksRequest, call: Call
    ) -> pb.ListProviderLinksResponse:
        response = pb.ListProviderLinksResponse()
        async with self._shared.db.transaction() as tx:
            for link, provider in await store.links(tx, UUID(request.user_id)):
                shown = response.links.add(provider_id=str(provider.provider_id), provider_name=provider.name)
                shown.create_time.FromDatetime(link.created_at)
        return response

    async def DeleteProviderLink(
        self, request: pb.DeleteProviderLinkRequest, call: Call
    ) -> pb.DeleteProviderLinkResponse:
        user_id = UUID(request.user_id)
        async with self._shared.db.transaction() as tx:
            link = await store.link_of(tx, UUID(request.provider_id), user_id)
            if link is not None:
                await tx.delete(link)
                event = AccountUnlinked(user_id=request.user_id, provider_id=request.provider_id)
                kind = ActivityKind.ACTIVITY_KIND_EXTERNAL_UNLINKED
                await self._shared.journal.write(tx, Entry(user_id=user_id, kind=kind), event)
        return pb.DeleteProviderLinkResponse()

    def _seal(self, provider: Provider, secret: str) -> None:
        sealed = self._shared.sealer.seal(secret.encode(), provider.sealed_as) if secret else None
        provider.sealed_secret = sealed


def _describe(provider: Provider, settings: pb.ProviderSettings) -> None:
    provider.name, provider.client_id = settings.name, settings.client_id
    provider.scopes = list(settings.scopes)
    provider.link_by_email, provider.sign_up = settings.link_by_email, settings.sign_up
    provider.disabled = settings.disabled


def to_pb(provider: Provider) -> pb.Provider:
    """Without the secret, sealed or not."""
    settings = pb.ProviderSettings(
        name=provider.name,
        issuer=provider.issuer,
        client_id=provider.client_id,
        scopes=provider.scopes,
        link_by_email=provider.link_by_email,
        sign_up=provider.sign_up,
        disabled=provider.disabled,
    )
    message = pb.Provider(provider_id=str(provider.provider_id), settings=settings, etag=provider.etag)
    message.create_time.FromDatetime(provider.created_at)
    message.update_time.FromDatetime(provider.updated_at)
    return message
