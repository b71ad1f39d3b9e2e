"""An outside provider signs people in by what it can prove, in the browser that began, and no further."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.identity.outside import CLIENT_ID, MODES, SECRET, OutsideProvider, serving
from tests.identity.people import Person, World, outcomes, refused
from weft.identity.v1 import provider_pb2 as pb, user_pb2
from weft.identity.v1.provider_pb2_grpc import ProviderServiceStub


@pytest.fixture
def outside(world: World) -> Iterator[OutsideProvider]:
    with serving(OutsideProvider(world.clock.now)) as provider:
        provider.claims = {"sub": f"o-{world.tag}", "email": world.ada, "email_verified": True, "name": "Ada"}
        yield provider


@pytest.fixture
def providers(world: World) -> Any:
    return ProviderServiceStub(world.lab.channel)


async def believed(world: World, providers: Any, outside: OutsideProvider, **rules: bool) -> pb.Provider:
    settings = pb.ProviderSettings(name="Outside", issuer=outside.issuer, client_id=CLIENT_ID, **rules)
    request = pb.CreateProviderRequest(settings=settings, client_secret=SECRET)
    response = await providers.CreateProvider(request, metadata=(await world.admin()).bearer)
    provider: pb.Provider = response.provider
    return provider


async def brought_back(
    providers: Any, outside: OutsideProvider, provider: pb.Provider
) -> pb.CompleteProviderSignInRequest:
    begun = await providers.StartProviderSignIn(
        pb.StartProviderSignInRequest(provider_id=provider.provider_id)
    )
    back = outside.sign_in(begun.redirect_uri)
    return pb.CompleteProviderSignInRequest(binding=begun.binding, **back)


async def signed_in(providers: Any, outside: OutsideProvider, provider: pb.Provider) -> Any:
    return await providers.CompleteProviderSignIn(await brought_back(providers, outside, provider))


async def test_somebody_new_gets_an_account_once(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    provider = await believed(world, providers, outside, sign_up=True)
    first = await signed_in(providers, outside, provider)
    again = await signed_in(providers, outside, provider)
    assert first.tokens.user_id == again.tokens.user_id
    user = (await world.users.GetMe(user_pb2.GetMeRequest(), metadata=Person(again.tokens).bearer)).user
    assert (user.email, user.profile.display_name) == (world.ada, "Ada")
    row = await world.lab.db("identity").fetchrow(
        "select amr from session where session_id = $1", again.tokens.session_id
    )
    assert row["amr"] == ["fed"]


async def test_an_account_is_linked_by_a_verified_address_where_the_rule_says_so(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    ada = await world.person()
    provider = await believed(world, providers, outside, link_by_email=True)
    outside.claims["email_verified"] = False
    assert await refused(signed_in(providers, outside, provider)) == "NO_LINKED_ACCOUNT"
    outside.claims["email_verified"] = "true"
    assert await refused(signed_in(providers, outside, provider)) == "NO_LINKED_ACCOUNT"
    outside.claims["email_verified"] = True
    assert (await signed_in(providers, outside, provider)).tokens.user_id == ada.user_id
    outside.claims["sub"] = "somebody else with the address"
    assert await refused(signed_in(providers, outside, provider)) == "NO_LINKED_ACCOUNT"


async def test_without_the_rule_an_address_links_nothing(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    await world.person()
    provider = await believed(world, providers, outside, sign_up=True)
    assert await refused(signed_in(providers, outside, provider)) == "NO_LINKED_ACCOUNT"


async def test_a_person_links_and_unlinks_a_provider(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    ada, bob = await world.person(), await world.person(world.at("bob"))
    provider = await believed(world, providers, outside)

    async def link(person: Person) -> Any:
        start = pb.StartProviderLinkRequest(provider_id=provider.provider_id)
        begun = await providers.StartProviderLink(start, metadata=person.bearer)
        back = outside.sign_in(begun.redirect_uri)
        request = pb.CompleteProviderSignInRequest(binding=begun.binding, **back)
        return await providers.CompleteProviderSignIn(request)

    assert (await link(ada)).link.provider_name == "Outside"
    assert (await link(ada)).WhichOneof("outcome") == "link"
    assert await refused(link(bob)) == "LINKED_ELSEWHERE"
    assert (await signed_in(providers, outside, provider)).tokens.user_id == ada.user_id
    listed = await providers.ListProviderLinks(
        pb.ListProviderLinksRequest(user_id=ada.user_id), metadata=ada.bearer
    )
    assert [each.provider_id for each in listed.links] == [provider.provider_id]
    unlink = pb.DeleteProviderLinkRequest(user_id=ada.user_id, provider_id=provider.provider_id)
    await providers.DeleteProviderLink(unlink, metadata=ada.bearer)
    assert await refused(signed_in(providers, outside, provider)) == "NO_LINKED_ACCOUNT"


async def test_a_second_factor_is_still_asked_for(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    await world.enrol(await world.person())
    provider = await believed(world, providers, outside, link_by_email=True)
    assert (await signed_in(providers, outside, provider)).WhichOneof("outcome") == "second_step"


async def test_one_of_64_parallel_ends_of_a_sign_in_succeeds(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    provider = await believed(world, providers, outside, sign_up=True)
    request = await brought_back(providers, outside, provider)
    answered, reasons = await outcomes(*(providers.CompleteProviderSignIn(request) for _ in range(64)))
    assert (answered, reasons) == (1, {"PROVIDER_SIGN_IN_REFUSED"})


async def test_a_sign_in_ends_in_the_browser_that_began_it_in_time_and_with_its_issuer(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    provider = await believed(world, providers, outside, sign_up=True)
    changes: list[dict[str, str]] = [
        {"binding": (await brought_back(providers, outside, provider)).binding},
        {"iss": "https://evil.test"},
        {"iss": ""},
        {"code": "another"},
        {"state": (await brought_back(providers, outside, provider)).binding},
    ]
    for change in changes:
        request = await brought_back(providers, outside, provider)
        request.MergeFrom(pb.CompleteProviderSignInRequest(**change))
        if "iss" in change:
            request.iss = change["iss"]
        assert await refused(providers.CompleteProviderSignIn(request)) == "PROVIDER_SIGN_IN_REFUSED", change
    request = await brought_back(providers, outside, provider)
    world.clock.advance(600)
    assert await refused(providers.CompleteProviderSignIn(request)) == "PROVIDER_SIGN_IN_REFUSED"


@pytest.mark.parametrize("mode", MODES[1:])
async def test_a_forged_id_token_signs_nobody_in(
    world: World, providers: Any, outside: OutsideProvider, mode: str
) -> None:
    provider = await believed(world, providers, outside, sign_up=True)
    outside.mode = mode
    assert await refused(signed_in(providers, outside, provider)) == "PROVIDER_SIGN_IN_REFUSED"
    outside.mode = "honest"
    await signed_in(providers, outside, provider)


WRONG: dict[str, dict[str, Any]] = {
    "issuer": {"iss": "https://evil.test"},
    "audience": {"aud": "another"},
    "audience of two": {"aud": [CLIENT_ID, "another"]},
    "party": {"azp": "another"},
    "nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "expiry": {"exp": 1},
    "no expiry": {"exp": None},
    "age": {"iat": 1},
    "subject": {"sub": ""},
    "subject's kind": {"sub": 7},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG)
async def test_an_id_token_with_a_wrong_claim_signs_nobody_in(
    world: World, providers: Any, outside: OutsideProvider, claims: dict[str, Any]
) -> None:
    provider = await believed(world, providers, outside, sign_up=True)
    outside.claims |= claims
    assert await refused(signed_in(providers, outside, provider)) == "PROVIDER_SIGN_IN_REFUSED"


async def test_a_provider_that_turned_its_key_is_believed_again(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    provider = await believed(world, providers, outside, sign_up=True)
    await signed_in(providers, outside, provider)
    outside.key = OutsideProvider(world.clock.now).key
    world.clock.advance(timedelta(seconds=31).total_seconds())
    await signed_in(providers, outside, provider)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.test"},
        {"token_endpoint": "http://evil.test/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
    ],
)
async def test_a_provider_whose_document_is_wrong_is_away(
    world: World, providers: Any, outside: OutsideProvider, document: dict[str, Any]
) -> None:
    provider = await believed(world, providers, outside)
    outside.document = document
    start = pb.StartProviderSignInRequest(provider_id=provider.provider_id)
    assert await refused(providers.StartProviderSignIn(start)) == "PROVIDER_AWAY"


async def test_an_answer_without_end_is_not_read(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    provider = await believed(world, providers, outside, sign_up=True)
    outside.document = {"jwks_uri": f"{outside.issuer}/huge"}
    assert await refused(signed_in(providers, outside, provider)) == "PROVIDER_AWAY"


async def test_a_providers_secret_is_sealed_and_its_issuer_fixed(
    world: World, providers: Any, outside: OutsideProvider
) -> None:
    admin = await world.admin()
    provider = await believed(world, providers, outside)
    row = await world.lab.db("identity").fetchrow(
        "select sealed_secret from provider where provider_id = $1", provider.provider_id
    )
    assert SECRET.encode() not in row["sealed_secret"]
    update = pb.UpdateProviderRequest(provider_id=provider.provider_id, settings=provider.settings)
    update.settings.disabled = True
    await providers.UpdateProvider(update, metadata=admin.bearer)
    start = pb.StartProviderSignInRequest(provider_id=provider.provider_id)
    assert await refused(providers.StartProviderSignIn(start)) == "PROVIDER_NOT_FOUND"
    update.settings.issuer = "https://other.test"
    assert await refused(providers.UpdateProvider(update, metadata=admin.bearer)) == "ISSUER_FIXED"
    for issuer in ("http://evil.test", "https://a@evil.test", "https://evil.test/?x=1", "ftp://evil.test"):
        settings = pb.ProviderSettings(name="x", issuer=issuer, client_id="x")
        create = pb.CreateProviderRequest(settings=settings)
        assert await refused(providers.CreateProvider(create, metadata=admin.bearer)) == "ISSUER_REFUSED"
