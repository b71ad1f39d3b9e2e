"""Who calls: tokens, API keys, and how often each caller may."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.rpc import code_pb2, error_details_pb2, status_pb2
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.edge.conftest import Edge
from tests.edge.probe import GOOD_KEY, ISSUER


def test_a_method_for_the_signed_in_demands_a_token(web: httpx.Client, edge: Edge) -> None:
    refused = web.get("/v1/things")
    assert refused.status_code == 401
    assert refused.json()["code"] == code_pb2.UNAUTHENTICATED
    assert refused.json()["details"][0]["reason"] == "SIGN_IN_REQUIRED"
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert web.get("/v1/things", headers=edge.token()).status_code == 200


def test_the_token_itself_reaches_the_service(web: httpx.Client, edge: Edge) -> None:
    token = edge.token()
    assert web.get("/v1/things/1", headers=token).json()["seen"]["authorization"] == token["authorization"]


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://else"},
        {"aud": "else"},
        {"exp": int(time.time()) - 600},
        {"nbf": 2**32},
        {"exp": None},
    ],
)
def test_a_token_with_wrong_claims_is_refused_even_where_none_is_needed(
    web: httpx.Client, edge: Edge, claims: dict[str, Any]
) -> None:
    assert web.get("/v1/things/1", headers=edge.token(**claims)).status_code == 401


def test_a_token_that_another_signed_is_refused(web: httpx.Client, edge: Edge) -> None:
    strange = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
    claims = {"iss": ISSUER, "aud": "weft", "sub": "u", "exp": int(time.time()) + 60}
    forged = jwt.encode({"alg": "ES256", "kid": "k1"}, claims, strange)
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none"}, claims)
    ]
    for token in (forged, ".".join([*parts, ""]), "x", "a.b.c"):
        assert web.get("/v1/things/1", headers={"authorization": f"Bearer {token}"}).status_code == 401


def test_a_token_in_the_query_is_no_token(web: httpx.Client, edge: Edge) -> None:
    token = edge.probe.token()
    assert web.get("/v1/things", params={"access_token": token}).status_code == 401


def test_grpc_callers_hear_of_a_missing_token(edge: Edge, call: Callable[..., Any]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call("ListThings")
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    trailers = dict(caught.value.trailing_metadata())
    assert status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    bearer = [("authorization", edge.token()["authorization"])]
    assert call("ListThings", metadata=bearer).things


def test_an_api_key_is_exchanged_for_a_token_and_goes_no_further(web: httpx.Client) -> None:
    answer = web.get("/v1/things/1", headers={"x-api-key": GOOD_KEY})
    seen = answer.json()["seen"]
    assert "x-api-key" not in seen
    claims = seen["authorization"].split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"] == "key-owner"
    assert web.get("/v1/things", headers={"x-api-key": GOOD_KEY}).status_code == 200


def test_an_unknown_api_key_is_refused_in_identitys_words(
    web: httpx.Client, call: Callable[..., Any]
) -> None:
    answer = web.get("/v1/things/1", headers={"x-api-key": "wk_bad"})
    assert (answer.status_code, answer.json()["message"]) == (401, "The API key is not known.")
    with pytest.raises(grpc.RpcError) as caught:
        call("GetThing", metadata=[("x-api-key", "wk_bad")])
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "The API key is not known."


def test_requests_without_a_key_do_not_ask_identity(web: httpx.Client, edge: Edge) -> None:
    before = edge.probe.asked["authorization"]
    assert web.get("/v1/things/1", headers=edge.token()).status_code == 200
    assert edge.probe.asked["authorization"] == before


def test_each_caller_has_a_bucket_of_its_own_at_every_door(
    web: httpx.Client, edge: Edge, call: Callable[..., Any]
) -> None:
    first, second = (edge.token(sub=f"limited-{number}") for number in (1, 2))
    answers = [web.get("/v1/try", headers=first) for _ in range(3)]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0"]
    refused = web.get("/v1/try", headers=first)
    assert (refused.status_code, refused.json()["code"]) == (429, code_pb2.RESOURCE_EXHAUSTED)
    assert refused.json()["details"][0]["reason"] == "TOO_MANY_CALLS"
    assert refused.headers["retry-after"] == "20"  # three a minute
    assert refused.headers["x-ratelimit-limit"] == "3"
    assert int(refused.headers["x-ratelimit-reset"]) > 0
    assert web.head("/v1/try", headers=first).status_code == 429
    with pytest.raises(grpc.RpcError) as caught:
        call("TryThing", metadata=[("authorization", first["authorization"])])
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "x-ratelimit-limit" in dict(caught.value.initial_metadata()) | dict(
        caught.value.trailing_metadata()
    )
    assert web.get("/v1/try", headers=second).status_code == 200


def test_strangers_are_counted_by_address(web: httpx.Client) -> None:
    codes = [web.get("/v1/try").status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    forged = web.get("/v1/try", headers={"x-weft-subject": "someone", "x-forwarded-for": "198.51.100.7"})
    assert forged.status_code == 429


def test_a_refusal_for_too_many_calls_names_its_reason_to_grpc(edge: Edge, call: Callable[..., Any]) -> None:
    bearer = [("authorization", edge.token(sub="limited-grpc")["authorization"])]
    for _ in range(3):
        call("TryThing", metadata=bearer)
    with pytest.raises(grpc.RpcError) as caught:
        call("TryThing", metadata=bearer)
    trailers = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "TOO_MANY_CALLS"
