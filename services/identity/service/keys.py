"""weft.identity.v1.KeyService."""

from services.chassis.method import Call
from services.identity.service.keyring import Keyring
from weft.identity.v1 import key_pb2 as pb
from weft.identity.v1.key_pb2_grpc import KeyServiceServicer


class SigningKeys(KeyServiceServicer):
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def GetJwks(self, request: pb.GetJwksRequest, call: Call) -> pb.GetJwksResponse:
        return pb.GetJwksResponse(keys=[pb.Jwk(**key) for key in self._keyring.jwks()])

    async def RotateKey(self, request: pb.RotateKeyRequest, call: Call) -> pb.RotateKeyResponse:
        key = await self._keyring.rotate(request.compromised)
        response = pb.RotateKeyResponse(kid=key.kid)
        response.sign_time.FromDatetime(key.signs_from)
        return response
