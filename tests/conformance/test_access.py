"""Who may call is what the contract says, whatever the engine; what is not proven is refused."""

import base64
import hmac
import json
import time
from typing import Any

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from services.chassis.caller import OPERATOR
from services.chassis.testing import ISSUER, Lab, reason, until

TOLD = "weft.audit.v1.CallsRefused"


@pytest.fixture
def stub(lab: Lab) -> Any:
    from conformance.v1.echo_pb2_grpc import EchoServiceStub

    return EchoServiceStub(lab.channel)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), reason(error.value)


async def test_no_token_is_asked_for_only_where_the_method_is_public(stub: Any, echo: Any) -> None:
    ask = echo.pb.Ask()
    assert (await stub.Unary(ask)).actor == "anonymous"
    assert await refused(stub.SignedIn(ask)) == (grpc.StatusCode.UNAUTHENTICATED, "SIGN_IN_REQUIRED")
    assert await refused(stub.Permitted(ask)) == (grpc.StatusCode.UNAUTHENTICATED, "SIGN_IN_REQUIRED")
    assert await refused(stub.Internal(ask)) == (grpc.StatusCode.PERMISSION_DENIED, "MESH_ONLY")


async def test_a_permission_is_granted_by_name_or_by_a_pattern_above_it(
    stub: Any, echo: Any, lab: Lab
) -> None:
    ask = echo.pb.Ask(text="someone")
    for scope in ("conformance.echo.read", "conformance.echo.*", "conformance.*", "*", "a conformance.*"):
        await stub.Permitted(ask, metadata=lab.bearer(scope=scope))
    for scope in ("", "conformance.echo.write", "conformance.echo", "conformance.echoes.*", "c*"):
        call = stub.Permitted(ask, metadata=lab.bearer(scope=scope))
        assert await refused(call) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")


async def test_ones_own_needs_no_permission(stub: Any, echo: Any, lab: Lab) -> None:
    own = echo.pb.Ask(text="me")
    assert (await stub.Permitted(own, metadata=lab.bearer("me", scope=""))).actor == "user:me"
    other = stub.Permitted(echo.pb.Ask(text="you"), metadata=lab.bearer("me", scope=""))
    assert await refused(other) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")


async def test_internal_methods_take_the_mesh_alone(stub: Any, echo: Any, lab: Lab) -> None:
    ask = echo.pb.Ask()
    assert (await stub.Internal(ask, metadata=lab.as_service("billing"))).actor == "service:billing"
    assert (await refused(stub.Internal(ask, metadata=lab.bearer())))[1] == "MESH_ONLY"
    denied = (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_CALLER")
    assert await refused(stub.Internal(ask, metadata=lab.as_service("cart"))) == denied
    assert await refused(stub.Internal(ask, metadata=lab.as_service())) == denied
    forged = jwt.encode(
        {"alg": "HS256"},
        {"iss": "weft-mesh", "sub": "billing", "exp": int(time.time()) + 60},
        OctKey.import_key("x" * 32),
    )
    assert (await refused(stub.Internal(ask, metadata=(("x-weft-service", forged),))))[1] == "BAD_TOKEN"


async def test_a_service_that_passes_a_person_on_keeps_the_persons_rights(
    stub: Any, echo: Any, lab: Lab
) -> None:
    both = (*lab.bearer("me", scope=""), *lab.as_service("billing"))
    assert (await stub.Internal(echo.pb.Ask(), metadata=both)).actor == "user:me"
    assert (await refused(stub.Permitted(echo.pb.Ask(text="you"), metadata=both)))[1] == "NOT_PERMITTED"


async def test_a_service_on_its_own_calls_what_names_it(stub: Any, echo: Any, lab: Lab) -> None:
    ask, denied = echo.pb.Ask(), (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_CALLER")
    for name in ("billing", "conformance", OPERATOR):
        assert (await stub.Permitted(ask, metadata=lab.as_service(name))).actor == f"service:{name}"
    assert await refused(stub.Permitted(ask, metadata=lab.as_service("cart"))) == denied
    assert await refused(stub.SignedIn(ask, metadata=lab.as_service("cart"))) == denied
    await stub.Unary(ask, metadata=lab.as_service("cart"))
    passed_on = (*lab.bearer("me", scope=""), *lab.as_service("cart"))
    assert (await stub.SignedIn(ask, metadata=passed_on)).actor == "user:me"


async def test_the_trail_is_told_who_was_refused(stub: Any, echo: Any, lab: Lab) -> None:
    for _ in range(3):
        call = stub.SignedIn(echo.pb.Ask(), metadata=lab.as_service("mallory"))
        assert (await refused(call))[1] == "NOT_A_CALLER"

    async def told() -> list[Any]:
        return list(await lab.db("echo").fetch("select key, actor from event where type = $1", TOLD))

    first = (await until(told))[0]
    assert first["actor"] == f"service:{first['key']}"


async def test_step_up_and_impersonation_are_held(stub: Any, echo: Any, lab: Lab) -> None:
    ask = echo.pb.Ask()
    now = int(lab.clock.now().timestamp())
    await stub.Fresh(ask, metadata=lab.bearer())
    assert (await refused(stub.Fresh(ask, metadata=lab.bearer(auth_time=now - 120))))[1] == "STEP_UP_REQUIRED"
    acting = lab.bearer(act={"sub": "support"})
    assert (await refused(stub.Fresh(ask, metadata=acting)))[1] == "IMPERSONATION_REFUSED"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.test"},
        {"aud": "other"},
        {"exp": 1},
        {"sub": ""},
        {"nbf": 9_999_999_999},
        {"kind": "root"},
    ],
    ids=lambda claims: next(iter(claims)),
)
async def test_a_token_with_a_wrong_claim_is_refused_even_where_none_is_needed(
    stub: Any, echo: Any, lab: Lab, claims: dict[str, Any]
) -> None:
    call = stub.Unary(echo.pb.Ask(), metadata=lab.bearer(**claims))
    assert await refused(call) == (grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN")


async def test_other_algorithms_keys_and_mangled_signatures_are_refused(
    stub: Any, echo: Any, lab: Lab
) -> None:
    good = lab.bearer()[0][1].split(" ")[1]
    head, body, signature = good.split(".")
    claims = {"iss": ISSUER, "aud": "weft", "sub": "me", "exp": int(time.time()) + 60, "scope": "*"}
    other = ECKey.generate_key("P-256")
    none = "eyJhbGciOiJub25lIn0." + body + "."
    flipped = f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    confused = confusion(lab.key.kid, claims, lab.key.as_pem(private=False))
    foreign = jwt.encode({"alg": "ES256", "kid": lab.key.kid}, claims, other)
    for token in (none, flipped, confused, foreign, "", "x", good + "x", "a.b.c", "x" * 10_000):
        call = stub.Unary(echo.pb.Ask(), metadata=(("authorization", f"Bearer {token}"),))
        assert await refused(call) == (grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN"), token[:40]


def confusion(kid: str | None, claims: dict[str, Any], public_pem: bytes) -> str:
    """A token signed by HMAC with the public key as its secret; the library refuses to make it."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "kid": kid}, claims)
    ]
    signature = hmac.digest(public_pem, b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


async def test_an_application_needs_the_scope_account_for_what_is_its_users_own(
    stub: Any, echo: Any, lab: Lab
) -> None:
    own = echo.pb.Ask(text="me")
    for claims in ({"client_id": "app"}, {"client_id": "key", "kind": "api_key"}):
        narrow = lab.bearer("me", scope="catalog.read", **claims)
        assert await refused(stub.SignedIn(own, metadata=narrow)) == DENIED
        assert await refused(stub.Permitted(own, metadata=narrow)) == DENIED
        wide = lab.bearer("me", scope="account", **claims)
        await stub.SignedIn(own, metadata=wide)
        await stub.Permitted(own, metadata=wide)
    await stub.SignedIn(own, metadata=lab.bearer("me", scope="", client_id="weft"))


async def test_basic_credentials_of_an_oauth_client_are_no_bad_token(stub: Any, echo: Any) -> None:
    basic = (("authorization", "Basic " + base64.b64encode(b"client:secret").decode()),)
    assert (await stub.Unary(echo.pb.Ask(), metadata=basic)).actor == "anonymous"
    assert (await refused(stub.SignedIn(echo.pb.Ask(), metadata=basic)))[1] == "SIGN_IN_REQUIRED"


DENIED = (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
