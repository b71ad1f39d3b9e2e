"""The other grants, and what ends them: refresh, client credentials, device code, revocation, clients."""

import asyncio
import base64
import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.duration_pb2 import Duration
from joserfc import jws

from services.chassis.clock import uuid7
from tests.identity.forms import (
    CODE,
    CREDENTIALS,
    DEVICE,
    DEVICE_URN,
    FORM,
    REDIRECT,
    REFRESH,
    Answer,
    Application,
    application,
)
from tests.identity.people import Person, World, refused
from weft.identity.v1 import oauth_client_pb2, oauth_pb2 as pb, service_account_pb2, user_pb2
from weft.identity.v1.oauth_client_pb2_grpc import OAuthClientServiceStub
from weft.identity.v1.service_account_pb2_grpc import ServiceAccountServiceStub


@pytest.fixture
async def admin(world: World) -> Person:
    return await world.admin()


@pytest.fixture
async def app(world: World, admin: Person) -> Application:
    return await application(world, admin)


@pytest.fixture
def clients(world: World) -> Any:
    return OAuthClientServiceStub(world.lab.channel)


async def tokens(world: World, app: Application) -> dict[str, Any]:
    return (await app.exchange(await app.code(await world.person()))).body


async def test_a_refresh_token_that_comes_twice_ends_its_family(world: World, app: Application) -> None:
    first = await tokens(world, app)
    second = await app.refresh(first["refresh_token"])
    assert second.status == 200
    assert (await app.refresh(first["refresh_token"])).error == "invalid_grant"
    assert (await app.refresh(second.body["refresh_token"])).error == "invalid_grant"


async def test_of_64_parallel_refreshes_at_most_one_succeeds_and_the_family_ends(
    world: World, app: Application
) -> None:
    first = await tokens(world, app)
    answers = await asyncio.gather(*(app.refresh(first["refresh_token"]) for _ in range(64)))
    good = [answer for answer in answers if answer.status == 200]
    assert len(good) == 1
    assert (await app.refresh(good[0].body["refresh_token"])).error == "invalid_grant"


async def test_a_refresh_token_is_its_clients_alone(world: World, admin: Person, app: Application) -> None:
    first = await tokens(world, app)
    other = await application(world, admin)
    assert (await other.refresh(first["refresh_token"])).error == "invalid_grant"
    wider = await app.refresh(first["refresh_token"], scope="openid identity.users.read")
    assert wider.error == "invalid_scope"
    assert (await app.refresh(first["refresh_token"], scope="openid")).status == 200


async def test_without_offline_access_nothing_is_refreshed(world: World, app: Application) -> None:
    answer = await app.exchange(await app.code(await world.person(), scope="openid"))
    assert "refresh_token" not in answer.body


async def test_a_client_proves_itself_by_one_way_and_the_right_secret(
    world: World, admin: Person, app: Application
) -> None:
    fields = {"grant_type": "refresh_token", "refresh_token": "x" * 43}
    wrong = await app.post("Token", {**fields, "client_id": app.client_id, "client_secret": "wrong"})
    assert (wrong.status, wrong.error) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"].startswith("Basic")
    assert (await app.post("Token", {**fields, "client_id": app.client_id})).error == "invalid_client"
    assert (await app.post("Token", {**fields, "client_id": "a" * 24})).error == "invalid_client"
    assert (await app.post("Token", fields, app.basic)).error == "invalid_grant"
    both = await app.post("Token", {**fields, "client_secret": app.secret}, app.basic)
    assert both.error == "invalid_request"
    broken = (("authorization", "Basic " + base64.b64encode(b"no colon").decode()),)
    assert (await app.post("Token", fields, broken)).error == "invalid_client"
    public = await application(world, admin, confidential=False)
    posing = await public.post("Token", {**fields, "client_id": public.client_id, "client_secret": "x"})
    assert posing.error == "invalid_client"


async def test_forms_that_are_none_are_refused(app: Application) -> None:
    cases = [
        (b"grant_type=refresh_token", "application/json"),
        (b"grant_type=a&grant_type=b", FORM),
        (b"\xff\xfe", FORM),
        (b"&".join(b"f%d=1" % n for n in range(50)), FORM),
        (b"", FORM),
    ]
    for data, media in cases:
        body = HttpBody(content_type=media, data=data)
        response = await app.service.Token(pb.TokenRequest(form=body))
        assert json.loads(response.json.data)["error"] == "invalid_request", data
    assert (await app.token(grant_type="password")).error == "unsupported_grant_type"
    assert (await app.token(grant_type="client_credentials")).error == "unauthorized_client"


async def test_a_machine_calls_by_client_credentials_within_both_bounds(world: World, admin: Person) -> None:
    accounts = ServiceAccountServiceStub(world.lab.channel)
    make = service_account_pb2.CreateServiceAccountRequest(name="importer", roles=["support"])
    account = (await accounts.CreateServiceAccount(make, metadata=admin.bearer)).service_account
    robot = await application(
        world,
        admin,
        redirect_uris=[],
        grant_types=[CREDENTIALS],
        scopes=["identity.users.read", "identity.roles.*"],
        service_account_id=account.service_account_id,
    )
    answer = await robot.token(grant_type="client_credentials")
    assert answer.body["scope"] == "identity.users.read"
    assert "refresh_token" not in answer.body
    claims = json.loads(jws.extract_compact(answer.body["access_token"].encode()).payload)
    assert (claims["sub"], claims["kind"]) == (account.service_account_id, "client")
    bearer = (("authorization", f"Bearer {answer.body['access_token']}"),)
    ada = await world.person()
    await world.users.GetUser(user_pb2.GetUserRequest(user_id=ada.user_id), metadata=bearer)
    wide = await robot.token(grant_type="client_credentials", scope="identity.sessions.read")
    assert wide.error == "invalid_scope"
    told = await robot.post("Introspect", {"token": answer.body["access_token"]}, robot.basic)
    assert (told.body["active"], told.body["sub"]) == (True, account.service_account_id)
    update = service_account_pb2.UpdateServiceAccountRequest(
        service_account_id=account.service_account_id, name="importer", disabled=True
    )
    await accounts.UpdateServiceAccount(update, metadata=admin.bearer)
    assert (await robot.token(grant_type="client_credentials")).error == "unauthorized_client"
    told = await robot.post("Introspect", {"token": answer.body["access_token"]}, robot.basic)
    assert told.body == {"active": False}


async def test_after_a_revocation_nothing_is_active(world: World, admin: Person, app: Application) -> None:
    given = await tokens(world, app)
    other = await application(world, admin)
    told = await app.post("Introspect", {"token": given["refresh_token"]}, app.basic)
    assert (told.body["active"], told.body["client_id"]) == (True, app.client_id)
    assert (await other.post("Introspect", {"token": given["access_token"]}, other.basic)).body == {
        "active": False
    }
    await other.post("Revoke", {"token": given["refresh_token"]}, other.basic)
    assert (await app.post("Introspect", {"token": given["access_token"]}, app.basic)).body["active"]
    assert (await app.post("Revoke", {"token": given["access_token"]}, app.basic)).status == 200
    for token in (given["access_token"], given["refresh_token"], "unknown"):
        assert (await app.post("Introspect", {"token": token}, app.basic)).body == {"active": False}
        assert (await app.post("Revoke", {"token": token}, app.basic)).status == 200
    assert (await app.refresh(given["refresh_token"])).error == "invalid_grant"


async def asking(world: World, admin: Person) -> tuple[Application, Answer]:
    television = await application(
        world, admin, confidential=False, redirect_uris=[], grant_types=[DEVICE, REFRESH]
    )
    fields = {"client_id": television.client_id, "scope": "openid offline_access"}
    return television, await television.post("AuthorizeDevice", fields)


async def test_a_device_is_let_in_by_the_code_that_it_shows(world: World, admin: Person) -> None:
    television, asked = await asking(world, admin)
    ada = await world.person()

    async def poll() -> Answer:
        return await television.token(grant_type=DEVICE_URN, device_code=asked.body["device_code"])

    assert (await poll()).error == "authorization_pending"
    assert (await poll()).error == "slow_down"
    user_code = asked.body["user_code"].lower().replace("-", " ")
    shown = await television.service.GetDevice(pb.GetDeviceRequest(user_code=user_code), metadata=ada.bearer)
    assert (shown.client_name, list(shown.scopes)) == ("Planner", ["offline_access", "openid"])
    decide = pb.DecideDeviceRequest(user_code=user_code, decision=pb.CONSENT_DECISION_GRANT)
    await television.service.DecideDevice(decide, metadata=ada.bearer)
    again = television.service.DecideDevice(decide, metadata=ada.bearer)
    assert await refused(again) == "USER_CODE_REFUSED"
    world.clock.advance(10)
    answers = await asyncio.gather(*(poll() for _ in range(64)))
    assert len([answer for answer in answers if answer.status == 200]) == 1
    assert {answer.error for answer in answers} <= {"", "slow_down", "expired_token"}
    world.clock.advance(70)
    assert (await poll()).error == "expired_token"


async def test_a_device_is_kept_out_or_comes_too_late(world: World, admin: Person) -> None:
    ada = await world.person()
    television, asked = await asking(world, admin)
    decide = pb.DecideDeviceRequest(user_code=asked.body["user_code"], decision=pb.CONSENT_DECISION_DENY)
    await television.service.DecideDevice(decide, metadata=ada.bearer)
    polled = await television.token(grant_type=DEVICE_URN, device_code=asked.body["device_code"])
    assert polled.error == "access_denied"
    television, asked = await asking(world, admin)
    world.clock.advance(600)
    polled = await television.token(grant_type=DEVICE_URN, device_code=asked.body["device_code"])
    assert polled.error == "expired_token"
    guess = pb.GetDeviceRequest(user_code="BBBB-BBBB")
    ada = await world.sign_in()
    reasons = [await refused(television.service.GetDevice(guess, metadata=ada.bearer)) for _ in range(21)]
    assert (reasons[0], reasons[-1]) == ("USER_CODE_REFUSED", "TOO_MANY_USER_CODES")


async def test_a_withdrawn_consent_ends_the_applications_sessions(world: World, app: Application) -> None:
    ada = await world.person()
    given = (await app.exchange(await app.code(ada))).body
    own = pb.ListConsentsRequest(user_id=ada.user_id)
    listed = await app.service.ListConsents(own, metadata=ada.bearer)
    assert [each.client_id for each in listed.consents] == [app.client_id]
    withdraw = pb.WithdrawConsentRequest(user_id=ada.user_id, client_id=app.client_id)
    await app.service.WithdrawConsent(withdraw, metadata=ada.bearer)
    assert (await app.refresh(given["refresh_token"])).error == "invalid_grant"
    assert not (await app.service.ListConsents(own, metadata=ada.bearer)).consents
    asked = await app.authorize(ada, pb.CONSENT_DECISION_UNSPECIFIED)
    assert asked.WhichOneof("next") == "consent"


async def test_a_deleted_client_holds_nothing(
    world: World, admin: Person, app: Application, clients: Any
) -> None:
    ada = await world.person()
    code, given = await app.code(ada), (await app.exchange(await app.code(ada))).body
    delete = oauth_client_pb2.DeleteOAuthClientRequest(client_id=app.client_id)
    await clients.DeleteOAuthClient(delete, metadata=admin.bearer)
    assert (await app.exchange(code)).error == "invalid_client"
    row = await world.lab.db("identity").fetchrow(
        "select count(*) as open from session where client_id = $1 and ended_at is null", app.client_id
    )
    assert row["open"] == 0
    assert given["refresh_token"]
    assert await refused(clients.DeleteOAuthClient(delete, metadata=admin.bearer)) == "CLIENT_NOT_FOUND"


async def test_a_rotated_secret_is_good_for_the_overlap(
    world: World, admin: Person, app: Application, clients: Any
) -> None:
    fields = {"grant_type": "refresh_token", "refresh_token": "x" * 43}
    rotate = oauth_client_pb2.RotateOAuthClientSecretRequest(
        client_id=app.client_id, overlap=Duration(seconds=60)
    )
    second = await clients.RotateOAuthClientSecret(rotate, metadata=admin.bearer)
    newer = Application(world, app.client_id, second.client_secret)
    assert (await app.token(**fields)).error == "invalid_grant"
    assert (await newer.token(**fields)).error == "invalid_grant"
    world.clock.advance(60)
    assert (await app.token(**fields)).error == "invalid_client"
    assert (await newer.token(**fields)).error == "invalid_grant"


BAD_CLIENTS: dict[str, dict[str, Any]] = {
    "http": {"redirect_uris": ["http://app.test/back"]},
    "fragment": {"redirect_uris": [REDIRECT + "#x"]},
    "user part": {"redirect_uris": ["https://a@app.test/"]},
    "script": {"redirect_uris": ["javascript:alert(1)"]},
    "relative": {"redirect_uris": ["/back"]},
    "blank": {"redirect_uris": ["https://app.test/a b"]},
    "no redirect": {"redirect_uris": []},
    "refresh alone": {"redirect_uris": [], "grant_types": [REFRESH]},
    "credentials of nobody": {"redirect_uris": [], "grant_types": [CREDENTIALS]},
}


@pytest.mark.parametrize("settings", BAD_CLIENTS.values(), ids=BAD_CLIENTS)
async def test_a_client_that_breaks_a_rule_is_refused(
    world: World, admin: Person, settings: dict[str, Any]
) -> None:
    assert await refused(application(world, admin, **settings)) == "CLIENT_REFUSED"


async def test_nobody_lets_a_client_ask_for_what_they_lack(
    world: World, admin: Person, app: Application, clients: Any
) -> None:
    settings = oauth_client_pb2.OAuthClientSettings(
        name="x", redirect_uris=[REDIRECT], grant_types=[CODE], scopes=["identity.users.read"]
    )
    request = oauth_client_pb2.CreateOAuthClientRequest(settings=settings)
    weak = world.lab.bearer(scope="identity.clients.write")
    assert await refused(clients.CreateOAuthClient(request, metadata=weak)) == "BEYOND_OWN_PERMISSIONS"
    created = await clients.CreateOAuthClient(request, metadata=admin.bearer)
    update = oauth_client_pb2.UpdateOAuthClientRequest(
        client_id=created.client.client_id, settings=settings, etag="stale"
    )
    assert await refused(clients.UpdateOAuthClient(update, metadata=admin.bearer)) == "ETAG_MISMATCH"
    settings.service_account_id, settings.grant_types[:] = str(uuid7()), [CODE, CREDENTIALS]
    request = oauth_client_pb2.CreateOAuthClientRequest(settings=settings, confidential=True)
    assert (
        await refused(clients.CreateOAuthClient(request, metadata=admin.bearer))
        == "SERVICE_ACCOUNT_NOT_FOUND"
    )


async def test_the_discovery_document_says_what_is_so(app: Application) -> None:
    response = await app.service.GetDiscovery(pb.GetDiscoveryRequest())
    document = json.loads(response.json.data)
    assert document["issuer"] == "https://lab.test"
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["id_token_signing_alg_values_supported"] == ["ES256"]
    assert all(
        document[name].startswith("https://lab.test/") for name in document if name.endswith("_endpoint")
    )
