"""The services behind the edge under test: one that answers what it is asked, and identity's two duties."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from joserfc import jwt
from joserfc.jwk import ECKey

from envoy.service.auth.v3 import external_auth_pb2 as auth, external_auth_pb2_grpc as auth_grpc
from envoy.type.v3 import http_status_pb2

INTERFACE = "weft.probe.v1.ProbeService"
ISSUER = "https://weft.test"
GOOD_KEY = "wk_good"
Message = Any
Context = grpc.ServicerContext


class Schema:
    """The probe's messages, made from the descriptor set in a pool of their own."""

    def __init__(self, path: Path) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self.pool.Add(file)
        self.methods = {each.name: each for each in self.pool.FindServiceByName(INTERFACE).methods}

    def input(self, method: str) -> Callable[..., Message]:
        return message_factory.GetMessageClass(self.methods[method].input_type)

    def output(self, method: str) -> Callable[..., Message]:
        return message_factory.GetMessageClass(self.methods[method].output_type)


class Probe:
    """A gRPC server of all probe methods, health, and identity's authorization."""

    def __init__(self, schema: Schema, port: int) -> None:
        self.schema = schema
        self.address = f"127.0.0.1:{port}"
        self.key = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
        self.asked: Counter[str] = Counter()
        self.cancelled = Event()
        self._server = self._build()

    def start(self) -> None:
        assert self._server.add_insecure_port(self.address)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def restart(self) -> None:
        self._server = self._build()
        self.start()

    def token(self, **claims: Any) -> str:
        """An access token as identity would sign it."""
        now = int(time.time())
        body = {"iss": ISSUER, "aud": "weft", "sub": "u-1", "iat": now, "exp": now + 60, **claims}
        return jwt.encode({"alg": "ES256", "kid": "k1"}, body, self.key)

    def _build(self) -> grpc.Server:
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)]
        server = grpc.server(ThreadPoolExecutor(32), options=options)
        handlers = {name: self._handler(name) for name in self.schema.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(INTERFACE, handlers),))
        checks = health.HealthServicer()
        checks.set(INTERFACE, health_pb2.HealthCheckResponse.SERVING)
        checks.set("identity", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        auth_grpc.add_AuthorizationServicer_to_server(Authorization(self), server)
        return server

    def _handler(self, name: str) -> grpc.RpcMethodHandler:
        method = self.schema.methods[name]
        kinds = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        return kinds[method.client_streaming, method.server_streaming](
            getattr(self, name),
            request_deserializer=self.schema.input(name).FromString,  # type: ignore[attr-defined]
            response_serializer=lambda message: message.SerializeToString(),
        )

    def _answer(self, method: str, **fields: Any) -> Message:
        self.asked[method] += 1
        return self.schema.output(method)(**fields)

    def GetThing(self, request: Message, context: Context) -> Message:
        thing = {"thing_id": request.thing_id, "name": request.note or "x" * 600, "units": 1 << 60}
        return self._answer("GetThing", thing=thing, seen=_seen(context))

    def ListThings(self, request: Message, context: Context) -> Message:
        count = request.page_size or 1
        return self._answer("ListThings", things=[{"thing_id": str(at)} for at in range(count)])

    def CreateThing(self, request: Message, context: Context) -> Message:
        return self._answer("CreateThing", thing=request.thing)

    def UpdateThing(self, request: Message, context: Context) -> Message:
        return self._answer("UpdateThing", thing=request.thing)

    def SuspendThing(self, request: Message, context: Context) -> Message:
        return self._answer("SuspendThing", thing={"thing_id": request.thing_id, "name": request.why})

    def UploadThing(self, request: Message, context: Context) -> Message:
        content = request.content
        return self._answer("UploadThing", bytes=len(content.data), content_type=content.content_type)

    def DownloadThing(self, request: Message, context: Context) -> Message:
        content = {"content_type": "image/svg+xml", "data": b"<svg/>"}
        if request.thing_id.isdigit():
            context.send_initial_metadata((("x-weft-http-status", request.thing_id),))
        return self._answer("DownloadThing", content=content)

    def WatchThings(self, request: Message, context: Context) -> Iterator[Message]:
        context.add_callback(self.cancelled.set)
        for at in range(request.count or 3):
            yield self._answer("WatchThings", thing={"thing_id": str(at)})

    def ImportThings(self, requests: Iterator[Message], context: Context) -> Message:
        return self._answer("ImportThings", bytes=sum(len(each.content) for each in requests))

    def TalkThings(self, requests: Iterator[Message], context: Context) -> Iterator[Message]:
        for request in requests:
            yield self._answer("TalkThings", word=request.word.upper())

    def GetPoster(self, request: Message, context: Context) -> Message:
        poster_id = request.poster_id
        if poster_id == "none":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such poster")
        self.asked[poster_id] += 1
        return self._answer("GetPoster", text=f"poster {poster_id}", served=self.asked[poster_id])

    def SleepThing(self, request: Message, context: Context) -> Message:
        answer = self._answer("SleepThing")  # Counted as it begins: its caller may be gone when it ends.
        time.sleep(request.ms / 1000)  # the work of a slow service, not a wait for a condition
        return answer

    def TryThing(self, request: Message, context: Context) -> Message:
        return self._answer("TryThing")

    def OldThing(self, request: Message, context: Context) -> Message:
        return self._answer("OldThing")

    def InsideThing(self, request: Message, context: Context) -> Message:
        return self._answer("InsideThing", seen=_seen(context))

    def FailThing(self, request: Message, context: Context) -> Message:
        status = status_pb2.Status(code=request.code, message="refused as asked")
        for detail in (
            error_details_pb2.ErrorInfo(reason="AS_ASKED", domain="probe.weft", metadata={"code": "7"}),
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3)),
        ):
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        context.abort_with_status(rpc_status.to_status(status))

    def RetryThing(self, request: Message, context: Context) -> Message:
        return self._fails_at_first("RetryThing", request, context)

    def OnceThing(self, request: Message, context: Context) -> Message:
        return self._fails_at_first("OnceThing", request, context)

    def GetKeys(self, request: Message, context: Context) -> Message:
        public = self.key.as_dict(private=False)
        names = {name: public[name] for name in ("kty", "crv", "x", "y")}
        return self._answer("GetKeys", keys=[{**names, "kid": "k1", "alg": "ES256", "use": "sig"}])

    def _fails_at_first(self, method: str, request: Message, context: Context) -> Message:
        self.asked[request.key] += 1
        if self.asked[request.key] <= request.failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return self._answer(method, tries=self.asked[request.key])


class Authorization(auth_grpc.AuthorizationServicer):
    """What identity does with an API key: a token for it, or a denial."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def Check(self, request: auth.CheckRequest, context: Context) -> auth.CheckResponse:
        self._probe.asked["authorization"] += 1
        answer = auth.CheckResponse()
        if request.attributes.request.http.headers.get("x-api-key") != GOOD_KEY:
            answer.status.code = grpc.StatusCode.UNAUTHENTICATED.value[0]
            answer.denied_response.status.code = http_status_pb2.Unauthorized
            answer.denied_response.body = "The API key is not known."
            return answer
        option = answer.ok_response.headers.add()
        option.header.key = "authorization"
        option.header.value = f"Bearer {self._probe.token(sub='key-owner')}"
        option.append_action = option.OVERWRITE_IF_EXISTS_OR_ADD
        return answer


def _seen(context: Context) -> dict[str, str]:
    pairs = context.invocation_metadata()
    return {
        key: value if isinstance(value, str) else base64.b64encode(value).decode() for key, value in pairs
    }
