"""The clients for outside speak the servers' bytes: betterproto2's, and the browser's bundle in node."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from generation.protoc import NODE, run
from weft.identity.v1 import user_pb2 as pb

SAMPLE = pb.User(
    user_id="0198c2a4-7c4e-7b60-8f3e-0a6f5d0c9b11",
    email="zoë@example.com",
    profile=pb.Profile(display_name="Zoë 😀", locale="de-AT"),
    state=pb.USER_STATE_ACTIVE,
    roles=["user", "clerk"],
    second_factor=True,
    create_time=Timestamp(seconds=1_700_000_000, nanos=123_000_000),
)
WIRE = SAMPLE.SerializeToString(deterministic=True)

PYTHON = """if True:
    import datetime
    import betterproto2
    from weft_client.weft.identity.v1 import Profile, User, UserState
    from weft_client.weft.identity.v1 import UserServiceStub, UserServiceSyncStub
    user = User(
        user_id="0198c2a4-7c4e-7b60-8f3e-0a6f5d0c9b11",
        email="zoë@example.com",
        profile=Profile(display_name="Zoë 😀", locale="de-AT"),
        state=UserState.ACTIVE,
        roles=["user", "clerk"],
        second_factor=True,
        create_time=datetime.datetime.fromtimestamp(1_700_000_000.123, datetime.timezone.utc),
    )
    assert isinstance(user, betterproto2.Message)
    assert User.parse(bytes(user)) == user
    assert UserServiceStub.get_user and UserServiceSyncStub.get_user
    print(bytes(user).hex())
"""
ONEOF = """if True:
    from weft_client.weft.identity.v1 import CompleteSignInRequest
    CompleteSignInRequest(ticket="t", totp_code="123456")
    try:
        CompleteSignInRequest(ticket="t", totp_code="123456", recovery_code="a")
    except ValueError:
        print("refused")
"""

ROUND_TRIP = """
const { create, fromBinary, identityV1, timestampFromDate, toBinary, toJson } = await import(BUNDLE);
const identity = identityV1;
const user = create(identity.UserSchema, {
  userId: "0198c2a4-7c4e-7b60-8f3e-0a6f5d0c9b11",
  email: "zoë@example.com",
  profile: { displayName: "Zoë 😀", locale: "de-AT" },
  state: identity.UserState.ACTIVE,
  roles: ["user", "clerk"],
  secondFactor: true,
  createTime: timestampFromDate(new Date(1700000000123)),
});
const wire = toBinary(identity.UserSchema, user);
const back = fromBinary(identity.UserSchema, wire);
const hex = Buffer.from(wire).toString("hex");
console.log(JSON.stringify({ hex, json: toJson(identity.UserSchema, back) }));
"""
CALL = """
const weft = await import(BUNDLE);
const { Code, ConnectError, createClient, createGrpcWebTransport, identityV1, rpc } = weft;
const seen = [];
const fetch = async (url, init) => {
  seen.push(url, new Headers(init.headers).get("content-type"));
  const headers = { "content-type": "application/grpc-web+proto", "grpc-status": "5" };
  return new Response(new Uint8Array(), { headers });
};
const transport = createGrpcWebTransport({ baseUrl: "https://edge.test", fetch });
try {
  await createClient(identityV1.UserService, transport).getUser({ userId: "x" });
} catch (error) {
  const refused = ConnectError.from(error);
  seen.push(Code[refused.code], refused.findDetails(rpc.ErrorInfoSchema).length);
}
console.log(JSON.stringify(seen));
"""


def python(made: Path, script: str, folder: Path) -> str:
    return run([sys.executable, "-W", "error", "-c", script], folder, PYTHONPATH=str(made / "client")).strip()


def node(made: Path, script: str) -> object:
    script = script.replace("BUNDLE", json.dumps((made / "web" / "weft.js").as_uri()))
    return json.loads(run([str(NODE), "--input-type=module", "--eval", script], made, NODE_NO_WARNINGS="1"))


def test_the_python_client_writes_the_servers_bytes(made: Path, tmp_path: Path) -> None:
    assert python(made, PYTHON, tmp_path) == WIRE.hex()


def test_the_python_client_holds_a_oneof_to_one_value(made: Path, tmp_path: Path) -> None:
    assert python(made, ONEOF, tmp_path) == "refused"


def test_the_bundle_writes_the_servers_bytes_and_reads_them_back(made: Path) -> None:
    found = node(made, ROUND_TRIP)
    assert isinstance(found, dict)
    assert found["hex"] == WIRE.hex()
    assert found["json"]["profile"] == {"displayName": "Zoë 😀", "locale": "de-AT"}
    assert found["json"]["createTime"] == "2023-11-14T22:13:20.123Z"


def test_the_bundle_calls_by_grpc_web_and_reads_a_refusal(made: Path) -> None:
    url = "https://edge.test/weft.identity.v1.UserService/GetUser"
    assert node(made, CALL) == [url, "application/grpc-web+proto", "NotFound", 0]
