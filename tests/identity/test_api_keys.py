"""An API key stands for its owner, no further than its scopes, until it is revoked: then at once not."""

import json
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from joserfc import jws

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from services.chassis.clock import uuid7
from tests.identity.people import Metadata, Person, World, refused
from weft.identity.v1 import api_key_pb2 as pb, service_account_pb2, user_pb2
from weft.identity.v1.api_key_pb2_grpc import ApiKeyServiceStub
from weft.identity.v1.service_account_pb2_grpc import ServiceAccountServiceStub


@pytest.fixture
def keys(world: World) -> Any:
    return ApiKeyServiceStub(world.lab.channel)


@pytest.fixture
def accounts(world: World) -> Any:
    return ServiceAccountServiceStub(world.lab.channel)


async def created(keys: Any, owner: Person, *scopes: str, **fields: Any) -> pb.CreateApiKeyResponse:
    request = pb.CreateApiKeyRequest(owner_id=owner.user_id, name="script", scopes=scopes, **fields)
    response: pb.CreateApiKeyResponse = await keys.CreateApiKey(request, metadata=owner.bearer)
    return response


async def check(world: World, key: str) -> CheckResponse:
    """What the edge would be told."""
    request = CheckRequest()
    request.attributes.request.http.headers["x-api-key"] = key
    response: CheckResponse = await AuthorizationStub(world.lab.channel).Check(request)
    return response


async def exchanged(world: World, key: str) -> Metadata:
    """What the edge would pass on in the key's place."""
    response = await check(world, key)
    assert response.WhichOneof("http_response") == "ok_response", response
    assert list(response.ok_response.headers_to_remove) == ["x-api-key"]
    (option,) = response.ok_response.headers
    return ((option.header.key, option.header.value),)


async def test_a_key_calls_as_its_owner_within_its_scopes(world: World, keys: Any) -> None:
    admin = await world.admin()
    ada = await world.person()
    key = await created(keys, admin, "identity.users.read")
    bearer = await exchanged(world, key.key)
    got = await world.users.GetUser(user_pb2.GetUserRequest(user_id=ada.user_id), metadata=bearer)
    assert got.user.user_id == ada.user_id
    disable = user_pb2.DisableUserRequest(user_id=ada.user_id)
    assert await refused(world.users.DisableUser(disable, metadata=bearer)) == "NOT_PERMITTED"


async def test_a_narrow_key_does_not_act_on_what_is_its_owners_own(world: World, keys: Any) -> None:
    ada = await world.person()
    own = user_pb2.GetUserRequest(user_id=ada.user_id)
    # Nobody may narrow to what they lack, so the narrow key is an administrator's.
    admin = await world.admin()
    narrow = await exchanged(world, (await created(keys, admin, "identity.roles.read")).key)
    mine = user_pb2.GetUserRequest(user_id=admin.user_id)
    assert await refused(world.users.GetUser(mine, metadata=narrow)) == "NOT_PERMITTED"
    wide = await exchanged(world, (await created(keys, ada, "account")).key)
    assert (await world.users.GetUser(own, metadata=wide)).user.user_id == ada.user_id
    whole = await exchanged(world, (await created(keys, ada)).key)
    assert (await world.users.GetUser(own, metadata=whole)).user.user_id == ada.user_id


async def test_a_key_makes_no_keys(world: World, keys: Any) -> None:
    admin = await world.admin()
    bearer = await exchanged(world, (await created(keys, admin)).key)
    request = pb.CreateApiKeyRequest(owner_id=admin.user_id, name="more")
    assert await refused(keys.CreateApiKey(request, metadata=bearer)) == "PERSON_REQUIRED"


async def test_nobody_gives_a_key_what_its_owner_or_they_lack(world: World, keys: Any) -> None:
    ada = await world.person()
    assert await refused(created(keys, ada, "identity.users.read")) == "BEYOND_OWN_PERMISSIONS"
    admin = await world.admin()
    helper = world.lab.bearer(scope="identity.api_keys.write identity.users.read")
    request = pb.CreateApiKeyRequest(owner_id=admin.user_id, name="script")
    assert await refused(keys.CreateApiKey(request, metadata=helper)) == "BEYOND_OWN_PERMISSIONS"
    other = pb.CreateApiKeyRequest(owner_id=admin.user_id, name="script")
    assert await refused(keys.CreateApiKey(other, metadata=ada.bearer)) == "NOT_PERMITTED"
    unknown = pb.CreateApiKeyRequest(owner_id=str(uuid7()), name="script")
    assert await refused(keys.CreateApiKey(unknown, metadata=admin.bearer)) == "OWNER_NOT_FOUND"


async def test_a_revoked_key_is_refused_at_once(world: World, keys: Any) -> None:
    ada = await world.person()
    key = await created(keys, ada)
    await exchanged(world, key.key)
    revoke = pb.RevokeApiKeyRequest(owner_id=ada.user_id, api_key_id=key.api_key.api_key_id)
    await keys.RevokeApiKey(revoke, metadata=ada.bearer)
    denial = await check(world, key.key)
    assert denial.denied_response.status.code == 401
    assert (denial.status.code, denial.denied_response.body) == (16, "The API key is not good.")
    await keys.RevokeApiKey(revoke, metadata=ada.bearer)
    events = await world.lab.db("identity").fetch(
        "select 1 from event where type = 'weft.identity.v1.ApiKeyRevoked' and key = $1",
        key.api_key.api_key_id,
    )
    assert len(events) == 1


async def test_what_is_no_key_is_refused(world: World, keys: Any) -> None:
    key = (await created(keys, await world.person())).key
    other = (await created(keys, await world.admin())).key
    id_of, secret_of = key.rsplit("_", 1)[0], other.rsplit("_", 1)[1]
    for text in ("", "weft", "weft__", key[:-1], key + "a", key.swapcase(), f"{id_of}_{secret_of}", "é" * 65):
        assert (await check(world, text)).WhichOneof("http_response") == "denied_response", text


async def test_an_expired_key_and_one_of_a_disabled_owner_are_refused(world: World, keys: Any) -> None:
    ada = await world.person()
    request = pb.CreateApiKeyRequest(owner_id=ada.user_id, name="script")
    request.expire_time.FromDatetime(world.clock.now() + timedelta(hours=1))
    expiring = (await keys.CreateApiKey(request, metadata=ada.bearer)).key
    lasting = (await created(keys, ada)).key
    await exchanged(world, expiring)
    world.clock.advance(3600)
    assert (await check(world, expiring)).HasField("denied_response")
    await exchanged(world, lasting)
    admin = await world.admin()
    disable = user_pb2.DisableUserRequest(user_id=ada.user_id)
    await world.users.DisableUser(disable, metadata=admin.bearer)
    assert (await check(world, lasting)).HasField("denied_response")
    request.expire_time.FromDatetime(world.clock.now())
    assert await refused(keys.CreateApiKey(request, metadata=admin.bearer)) == "EXPIRY_REFUSED"


async def test_a_rotated_secret_is_good_for_the_overlap_and_no_longer(world: World, keys: Any) -> None:
    ada = await world.person()
    first = await created(keys, ada)
    rotate = pb.RotateApiKeyRequest(
        owner_id=ada.user_id, api_key_id=first.api_key.api_key_id, overlap=Duration(seconds=60)
    )
    second = await keys.RotateApiKey(rotate, metadata=ada.bearer)
    assert second.api_key.HasField("previous_expire_time")
    await exchanged(world, first.key)
    await exchanged(world, second.key)
    world.clock.advance(60)
    assert (await check(world, first.key)).HasField("denied_response")
    rotate.ClearField("overlap")
    third = await keys.RotateApiKey(rotate, metadata=ada.bearer)
    assert (await check(world, second.key)).HasField("denied_response")
    await exchanged(world, third.key)


async def test_the_token_tells_whose_key_it_is_and_follows_changed_roles(
    world: World, keys: Any, accounts: Any
) -> None:
    admin = await world.admin()
    make = service_account_pb2.CreateServiceAccountRequest(name="importer", roles=["support"])
    account = (await accounts.CreateServiceAccount(make, metadata=admin.bearer)).service_account
    request = pb.CreateApiKeyRequest(owner_id=account.service_account_id, name="nightly")
    key = (await keys.CreateApiKey(request, metadata=admin.bearer)).key
    claims = await claims_of(world, key)
    assert (claims["sub"], claims["kind"]) == (account.service_account_id, "api_key")
    assert claims["client_id"] == key.split("_")[1]
    assert "identity.users.read" in claims["scope"].split()
    change = service_account_pb2.UpdateServiceAccountRequest(
        service_account_id=account.service_account_id, name="importer", roles=[]
    )
    await accounts.UpdateServiceAccount(change, metadata=admin.bearer)
    assert (await claims_of(world, key))["scope"] == "account"
    change.disabled = True
    await accounts.UpdateServiceAccount(change, metadata=admin.bearer)
    assert (await check(world, key)).HasField("denied_response")


async def test_deleting_a_service_account_voids_its_keys(world: World, keys: Any, accounts: Any) -> None:
    admin = await world.admin()
    make = service_account_pb2.CreateServiceAccountRequest(service_account_id=str(uuid7()), name="importer")
    account = (await accounts.CreateServiceAccount(make, metadata=admin.bearer)).service_account
    again = (await accounts.CreateServiceAccount(make, metadata=admin.bearer)).service_account
    assert again == account
    make.name = "another"
    assert (
        await refused(accounts.CreateServiceAccount(make, metadata=admin.bearer)) == "SERVICE_ACCOUNT_EXISTS"
    )
    request = pb.CreateApiKeyRequest(owner_id=account.service_account_id, name="nightly")
    key = (await keys.CreateApiKey(request, metadata=admin.bearer)).key
    delete = service_account_pb2.DeleteServiceAccountRequest(service_account_id=account.service_account_id)
    await accounts.DeleteServiceAccount(delete, metadata=admin.bearer)
    assert (await check(world, key)).HasField("denied_response")
    weak = world.lab.bearer(scope="identity.service_accounts.*")
    make = service_account_pb2.CreateServiceAccountRequest(name="root", roles=["admin"])
    assert await refused(accounts.CreateServiceAccount(make, metadata=weak)) == "BEYOND_OWN_PERMISSIONS"


async def test_no_secret_of_a_key_is_stored(world: World, keys: Any) -> None:
    ada = await world.person()
    secret = (await created(keys, ada)).key.split("_")[2]
    rows = await world.lab.db("identity").fetch("select row_to_json(api_key)::text as r from api_key")
    rows += await world.lab.db("identity").fetch("select api_key_secret::text as r from api_key_secret")
    rows += await world.lab.db("identity").fetch("select encode(payload, 'escape') as r from event")
    assert not any(secret in row["r"] for row in rows)
    listed = await keys.ListApiKeys(pb.ListApiKeysRequest(owner_id=ada.user_id), metadata=ada.bearer)
    assert [len(each.prefix) for each in listed.api_keys] == [len("weft_") + 16]


async def claims_of(world: World, key: str) -> dict[str, Any]:
    """What the exchanged token says; its signature was verified wherever a service took it."""
    ((_, value),) = await exchanged(world, key)
    compact = jws.extract_compact(value.removeprefix("Bearer ").encode())
    claims: dict[str, Any] = json.loads(compact.payload)
    return claims
