"""A code is for one client, one redirect URI, one verifier, one use; and what it gave dies with misuse."""

import asyncio
import base64
import json
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OctKey

from services.identity.domain.oauth import at_hash
from tests.identity.forms import CODE, REDIRECT, Answer, Application, application
from tests.identity.people import World, refused
from weft.identity.v1 import key_pb2, oauth_pb2 as pb, sign_in_pb2, user_pb2


@pytest.fixture
async def app(world: World) -> Application:
    return await application(world, await world.admin())


async def test_a_person_signs_in_to_an_application(world: World, app: Application) -> None:
    ada = await world.person()
    back = await app.sent_back(ada)
    assert (back["state"], back["iss"]) == ("st~te", "https://lab.test")
    answer = await app.exchange(back["code"])
    assert (answer.status, answer.body["token_type"]) == (200, "Bearer")
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.body["scope"].split()) == {"openid", "email", "offline_access"}
    claims = await verified(world, answer.body["id_token"])
    assert (claims["sub"], claims["aud"], claims["nonce"]) == (ada.user_id, app.client_id, "n-1")
    assert claims["at_hash"] == at_hash(answer.body["access_token"])
    assert claims["amr"] == ["pwd"]
    info = await user_info(app, answer)
    assert info == {"sub": ada.user_id, "email": world.ada, "email_verified": True}


async def test_an_id_token_opens_no_door(world: World, app: Application) -> None:
    answer = await app.exchange(await app.code(await world.person()))
    bearer = (("authorization", f"Bearer {answer.body['id_token']}"),)
    assert await refused(world.users.GetMe(user_pb2.GetMeRequest(), metadata=bearer)) == "BAD_TOKEN"


async def test_an_applications_token_does_not_act_on_what_is_its_users_own(
    world: World, app: Application
) -> None:
    ada = await world.person()
    answer = await app.exchange(await app.code(ada))
    bearer = (("authorization", f"Bearer {answer.body['access_token']}"),)
    own = user_pb2.GetUserRequest(user_id=ada.user_id)
    assert await refused(world.users.GetUser(own, metadata=bearer)) == "NOT_PERMITTED"
    assert await refused(world.users.GetMe(user_pb2.GetMeRequest(), metadata=bearer)) == "NOT_PERMITTED"
    request = pb.AuthorizeRequest(query=app.query(), decision=pb.CONSENT_DECISION_GRANT)
    assert await refused(app.service.Authorize(request, metadata=bearer)) == "FIRST_PARTY_ONLY"


async def test_one_of_64_parallel_exchanges_succeeds_and_the_others_end_its_session(
    world: World, app: Application
) -> None:
    ada = await world.person()
    code = await app.code(ada)
    answers = await asyncio.gather(*(app.exchange(code) for _ in range(64)))
    good = [answer for answer in answers if answer.status == 200]
    assert len(good) == 1
    assert {answer.error for answer in answers} == {"", "invalid_grant"}
    assert (await app.refresh(good[0].body["refresh_token"])).error == "invalid_grant"


async def test_a_code_that_comes_again_ends_what_it_gave(world: World, app: Application) -> None:
    ada = await world.person()
    code = await app.code(ada)
    first = await app.exchange(code)
    assert (await user_info(app, first))["sub"] == ada.user_id
    assert (await app.exchange(code)).error == "invalid_grant"
    assert (await app.refresh(first.body["refresh_token"])).error == "invalid_grant"
    assert (await user_info(app, first))["error"] == "invalid_token"
    told = await app.post("Introspect", {"token": first.body["access_token"]}, app.basic)
    assert told.body == {"active": False}
    events = await world.lab.db("identity").fetch(
        "select type from event where key = $1 and type ~ 'CodeReused|SessionRevoked'", ada.user_id
    )
    assert sorted(row["type"].rsplit(".", 1)[1] for row in events) == [
        "AuthorizationCodeReused",
        "SessionRevoked",
    ]


MISMATCHES = {
    "another redirect uri": {"redirect_uri": REDIRECT + "/"},
    "no redirect uri": {"redirect_uri": ""},
    "another verifier": {"code_verifier": "v" * 43},
    "no verifier": {"code_verifier": ""},
}


@pytest.mark.parametrize("fields", MISMATCHES.values(), ids=MISMATCHES)
async def test_a_code_with_a_mismatch_is_refused_and_spent(
    world: World, app: Application, fields: dict[str, str]
) -> None:
    code = await app.code(await world.person())
    assert (await app.exchange(code, **fields)).error == "invalid_grant"
    assert (await app.exchange(code)).error == "invalid_grant"


async def test_a_code_is_no_other_clients_and_not_good_for_long(world: World, app: Application) -> None:
    admin, ada = await world.admin(), await world.person()
    other = await application(world, admin)
    other.verifier = app.verifier
    assert (await other.exchange(await app.code(ada))).error == "invalid_grant"
    code = await app.code(ada)
    world.clock.advance(60)
    assert (await app.exchange(code)).error == "invalid_grant"


DOWNGRADES: dict[str, dict[str, str | None]] = {
    "no challenge": {"code_challenge": None, "code_challenge_method": None},
    "plain": {"code_challenge_method": "plain"},
    "no method": {"code_challenge_method": None},
    "a short challenge": {"code_challenge": "short"},
}


@pytest.mark.parametrize("fields", DOWNGRADES.values(), ids=DOWNGRADES)
async def test_pkce_is_not_downgraded(world: World, app: Application, fields: dict[str, str | None]) -> None:
    back = await app.sent_back(await world.person(), **fields)
    assert (back["error"], back["state"], "code" in back) == ("invalid_request", "st~te", False)


REFUSED_QUERIES: dict[str, dict[str, str | None]] = {
    "a longer redirect uri": {"redirect_uri": REDIRECT + "?x=1"},
    "a slash more": {"redirect_uri": REDIRECT + "/"},
    "another case": {"redirect_uri": "https://APP.test/back"},
    "another host": {"redirect_uri": "https://evil.test/back"},
    "user part": {"redirect_uri": "https://app.test@evil.test/back"},
    "none": {"redirect_uri": None},
    "an unknown client": {"client_id": "a" * 24},
}


@pytest.mark.parametrize("fields", REFUSED_QUERIES.values(), ids=REFUSED_QUERIES)
async def test_nobody_is_sent_to_an_unregistered_place(
    world: World, app: Application, fields: dict[str, str | None]
) -> None:
    assert await refused(app.authorize(await world.person(), **fields)) == "AUTHORIZATION_REFUSED"
    assert await refused(app.authorize(None, **fields)) == "AUTHORIZATION_REFUSED"


async def test_errors_go_to_the_client_by_redirect(world: World, app: Application) -> None:
    ada = await world.person()
    cases: list[tuple[dict[str, str | None], str]] = [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "identity.roles.write"}, "invalid_scope"),
        ({"request": "jwt"}, "request_not_supported"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
    ]
    for fields, error in cases:
        assert (await app.sent_back(ada, **fields))["error"] == error
    denied = await app.sent_back(ada, pb.CONSENT_DECISION_DENY)
    assert denied["error"] == "access_denied"
    twice = pb.AuthorizeRequest(query=app.query() + "&state=other")
    assert await refused(app.service.Authorize(twice, metadata=ada.bearer)) == "AUTHORIZATION_REFUSED"


async def test_prompt_and_max_age_ask_for_what_they_say(world: World, app: Application) -> None:
    none = pb.CONSENT_DECISION_UNSPECIFIED
    assert (await app.sent_back(None, none, prompt="none"))["error"] == "login_required"
    assert (await app.authorize(None, none)).WhichOneof("next") == "sign_in"
    ada = await world.person()
    assert (await app.sent_back(ada, none, prompt="none"))["error"] == "consent_required"
    asked = await app.authorize(ada, none)
    assert (asked.consent.client_name, asked.consent.redirect_host) == ("Planner", "app.test")
    await app.code(ada)
    assert "code" in await app.sent_back(ada, none, prompt="none")
    assert (await app.authorize(ada, none, prompt="consent")).WhichOneof("next") == "consent"
    wider = await app.authorize(ada, none, scope="openid email profile")
    assert wider.WhichOneof("next") == "consent"
    world.clock.advance(200)
    assert (await app.authorize(ada, none, max_age="100")).WhichOneof("next") == "sign_in"
    assert (await app.authorize(ada, none, prompt="login")).WhichOneof("next") == "sign_in"
    assert "code" in await app.sent_back(await world.sign_in(), none, prompt="login")


async def test_an_id_token_hint_counts_when_we_signed_it_and_no_other(world: World, app: Application) -> None:
    ada, bob = await world.person(), await world.person(world.at("bob"))
    token = (await app.exchange(await app.code(ada))).body["id_token"]
    await app.code(bob)
    none = pb.CONSENT_DECISION_UNSPECIFIED
    assert "code" in await app.sent_back(ada, none, prompt="none", id_token_hint=token)
    assert (await app.sent_back(bob, none, prompt="none", id_token_hint=token))["error"] == "login_required"
    for forged in forgeries(token, await jwks(world)):
        back = await app.sent_back(ada, none, prompt="none", id_token_hint=forged)
        assert back["error"] == "login_required"


async def test_a_signed_out_session_authorizes_nothing(world: World, app: Application) -> None:
    ada = await world.person()
    code = await app.code(ada)
    await world.sign_in_service.SignOut(sign_in_pb2.SignOutRequest(), metadata=ada.bearer)
    assert (await app.authorize(ada)).WhichOneof("next") == "sign_in"
    assert (await app.exchange(code)).error == "invalid_grant"


async def test_a_trusted_client_asks_nobody_and_a_public_one_each_time(world: World) -> None:
    admin, ada, none = await world.admin(), await world.person(), pb.CONSENT_DECISION_UNSPECIFIED
    trusted = await application(world, admin, trusted=True)
    assert "code" in await trusted.sent_back(ada, none)
    loopback = "http://127.0.0.1/back"
    public = await application(world, admin, confidential=False, redirect_uris=[loopback], grant_types=[CODE])
    given = "http://127.0.0.1:49152/back"
    code = await public.code(ada, redirect_uri=given)
    answer = await public.exchange(code, redirect_uri=given)
    assert (answer.status, "refresh_token" in answer.body) == (200, False)
    assert (await public.authorize(ada, none, redirect_uri=given)).WhichOneof("next") == "consent"


def forgeries(token: str, keys: list[dict[str, Any]]) -> list[str]:
    """The token's claims under other algorithms and keys (RFC 8725 2)."""
    claims = json.loads(jws.extract_compact(token.encode()).payload)
    header = {"kid": keys[0]["kid"], "typ": "JWT"}
    public = OctKey.import_key(json.dumps(keys[0]).encode())
    head, payload, signature = token.split(".")
    unsigned = base64.urlsafe_b64encode(json.dumps({**header, "alg": "none"}).encode()).decode().rstrip("=")
    return [
        jwt.encode({**header, "alg": "HS256"}, claims, public),
        jwt.encode({**header, "alg": "ES256"}, claims, ECKey.generate_key("P-256")),
        f"{unsigned}.{payload}.",
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[:-4]}AAAA",
    ]


async def jwks(world: World) -> list[dict[str, Any]]:
    response = await world.keys.GetJwks(key_pb2.GetJwksRequest())
    names = ("kty", "crv", "x", "y", "alg", "use", "kid")
    return [{name: getattr(key, name) for name in names} for key in response.keys]


async def verified(world: World, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set({"keys": await jwks(world)})  # type: ignore[typeddict-item]
    return dict(jwt.decode(token, keys, algorithms=["ES256"]).claims)


async def user_info(app: Application, answer: Answer) -> dict[str, Any]:
    bearer = (("authorization", f"Bearer {answer.body['access_token']}"),)
    response = await app.service.GetUserInfo(pb.GetUserInfoRequest(), metadata=bearer)
    info: dict[str, Any] = json.loads(response.json.data)
    return info
