"""Signing keys change with overlap; a token that any of them did not sign as it says is refused."""

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from services.chassis.testing import until
from tests.identity.people import Person, World, refused
from weft.identity.v1 import key_pb2 as pb, sign_in_pb2, user_pb2

DAY_S, LEAD_S = 86_400, 900


async def jwks(world: World) -> list[dict[str, Any]]:
    answer = MessageToDict(await world.keys.GetJwks(pb.GetJwksRequest()))
    keys: list[dict[str, Any]] = answer["keys"]
    return keys


def header(person: Person) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(decoded(person.tokens.access_token.split(".")[0]))
    return fields


async def me(world: World, token: str) -> user_pb2.User:
    bearer = (("authorization", f"Bearer {token}"),)
    response = await world.users.GetMe(user_pb2.GetMeRequest(), metadata=bearer)
    user: user_pb2.User = response.user
    return user


async def test_key_set_has_public_members_only_and_verifies_tokens(world: World) -> None:
    person, keys = await world.person(), await jwks(world)
    assert {frozenset(key) for key in keys} == {frozenset({"kty", "crv", "x", "y", "alg", "use", "kid"})}
    assert header(person)["kid"] in {key["kid"] for key in keys}
    assert (header(person)["alg"], header(person)["typ"]) == ("ES256", "at+jwt")
    key = next(key for key in keys if key["kid"] == header(person)["kid"])
    claims = jwt.decode(person.tokens.access_token, ECKey.import_key(key), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["client_id"], claims["kind"]) == (person.user_id, "weft", "user")
    assert claims["exp"] - claims["iat"] == 300


async def test_private_keys_are_sealed(world: World) -> None:
    rows = await world.lab.db("identity").fetch("select t::text from signing_key t")
    assert rows
    assert not any('"d"' in row[0] for row in rows)


async def turned(world: World, key_count: int) -> None:
    """Has the keyring look at the clock."""
    await world.running.shared().keyring.refresh()
    assert len(await jwks(world)) == key_count


async def test_keys_rotate_with_overlap_so_that_no_token_dies_early(alone: World) -> None:
    world = alone
    person = await world.person()
    first = header(person)["kid"]
    world.clock.advance(30 * DAY_S - LEAD_S)
    await turned(world, 2)
    before = await world.sign_in()
    assert header(before)["kid"] == first
    world.clock.advance(LEAD_S + 10)
    await turned(world, 2)
    after = await world.sign_in()
    assert header(after)["kid"] != first
    assert (await me(world, after.tokens.access_token)).user_id == person.user_id
    world.clock.advance(2 * 3600)
    await turned(world, 1)
    assert {key["kid"] for key in await jwks(world)} == {header(after)["kid"]}


async def test_token_of_the_old_key_lives_out_its_time(alone: World) -> None:
    world = alone
    await world.open_account()
    world.clock.advance(30 * DAY_S - LEAD_S)
    await turned(world, 2)
    world.clock.advance(LEAD_S - 100)
    before = await world.sign_in()
    world.clock.advance(200)
    await turned(world, 2)
    assert header(await world.sign_in())["kid"] != header(before)["kid"]
    await me(world, before.tokens.access_token)


async def test_compromised_keys_leave_at_once_and_sessions_go_on(alone: World) -> None:
    world = alone
    person, admin = await world.person(), await world.admin()
    await world.keys.RotateKey(pb.RotateKeyRequest(compromised=True), metadata=admin.bearer)
    assert await refused(me(world, person.tokens.access_token)) == "BAD_TOKEN"
    refresh = sign_in_pb2.RefreshRequest(refresh_token=person.tokens.refresh_token)
    renewed = (await world.sign_in_service.Refresh(refresh)).tokens
    assert (await me(world, renewed.access_token)).user_id == person.user_id
    assert len(await jwks(world)) == 1


async def test_asked_for_key_signs_after_its_lead(alone: World) -> None:
    world = alone
    await world.open_account()
    admin = await world.admin()
    new = (await world.keys.RotateKey(pb.RotateKeyRequest(), metadata=admin.bearer)).kid
    assert {new, header(admin)["kid"]} == {key["kid"] for key in await jwks(world)}
    assert header(await world.sign_in())["kid"] != new
    world.clock.advance(901)
    assert header(await world.sign_in())["kid"] == new


async def test_every_process_hears_of_a_new_key_set(alone: World) -> None:
    world = alone
    admin = await world.admin()
    new = (await world.keys.RotateKey(pb.RotateKeyRequest(), metadata=admin.bearer)).kid
    bucket = await world.lab.bus.kv("weft_keys")

    async def there() -> bool:
        return new in (await bucket.get("jwks") or b"").decode()

    assert await until(there)


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def with_header(claims: str, **fields: str) -> str:
    return f"{encoded(json.dumps(fields).encode())}.{claims}"


def by_public_key(claims: str, public: dict[str, Any]) -> str:
    """HS256 with what everybody knows (CVE-2015-9235)."""
    text = with_header(claims, alg="HS256", kid=public["kid"])
    secret = ECKey.import_key(public).as_pem(private=False)
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def by_own_key(claims: str) -> str:
    own = ECKey.generate_key("P-256")
    return jwt.encode({"alg": "ES256", "jwk": own.as_dict(private=False)}, json.loads(decoded(claims)), own)


def by(algorithm: str, key: Any) -> Callable[[str, dict[str, Any]], str]:
    def forge(claims: str, public: dict[str, Any]) -> str:
        head = {"alg": algorithm, "kid": public["kid"]}
        return jwt.encode(head, json.loads(decoded(claims)), key(), algorithms=[algorithm])

    return forge


# A token that says what a person's says, signed as it must not be.
FORGED: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "alg none": lambda claims, public: with_header(claims, alg="none", kid=public["kid"]) + ".",
    "HS256 by the public key": by_public_key,
    "another key": by("ES256", lambda: ECKey.generate_key("P-256")),
    "another curve": by("ES384", lambda: ECKey.generate_key("P-384")),
    "RSA": by("RS256", lambda: RSAKey.generate_key(2048)),
    "its own key in the header": lambda claims, public: by_own_key(claims),
    "no signature": lambda claims, public: with_header(claims, alg="ES256", kid=public["kid"]),
}


@pytest.mark.parametrize("how", FORGED)
async def test_forged_token_is_refused(world: World, how: str) -> None:
    person = await world.person()
    public = next(key for key in await jwks(world) if key["kid"] == header(person)["kid"])
    claims = person.tokens.access_token.split(".")[1]
    assert await refused(me(world, FORGED[how](claims, public))) == "BAD_TOKEN"


async def test_token_is_refused_when_a_part_of_it_changed(world: World) -> None:
    person = await world.person()
    head, body, signature = person.tokens.access_token.split(".")
    wider = encoded(json.dumps({**json.loads(decoded(body)), "scope": "*"}).encode())
    other = encoded(bytes([decoded(signature)[0] ^ 1]) + decoded(signature)[1:])
    for token in (f"{head}.{wider}.{signature}", f"{head}.{body}.{other}", f"{head}.{body}.{signature}AAAA"):
        assert await refused(me(world, token)) == "BAD_TOKEN"


async def test_token_is_refused_when_its_time_is_over(world: World) -> None:
    person = await world.person()
    world.clock.advance(306)
    assert await refused(me(world, person.tokens.access_token)) == "BAD_TOKEN"
