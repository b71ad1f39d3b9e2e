"""The outer half of identity put together: passkeys, machines, OAuth, outside providers, policies."""

from collections.abc import Mapping

from envoy.service.auth.v3.external_auth_pb2_grpc import add_AuthorizationServicer_to_server
from services.chassis.config import load
from services.chassis.host import Parts
from services.identity.federation_settings import FederationSettings
from services.identity.service.api_key import ApiKeys
from services.identity.service.key_exchange import KeyExchange
from services.identity.service.oauth import OAuth
from services.identity.service.oauth_client import OAuthClients
from services.identity.service.outside import Outside
from services.identity.service.passkey import Passkeys
from services.identity.service.policy import Policies
from services.identity.service.provider import Providers
from services.identity.service.provider_sign_in import ProviderSignIns
from services.identity.service.second_step import SecondSteps
from services.identity.service.service_account import ServiceAccounts
from services.identity.service.shared import Shared
from services.identity.settings import PREFIX
from weft.identity.v1 import (
    api_key_pb2_grpc,
    oauth_client_pb2_grpc,
    oauth_pb2_grpc,
    passkey_pb2_grpc,
    policy_pb2_grpc,
    provider_pb2_grpc,
    service_account_pb2_grpc,
)


def federation(shared: Shared, steps: SecondSteps, environ: Mapping[str, str] | None = None) -> Parts:
    """What app.py adds to its own."""
    settings = load(FederationSettings, environ, PREFIX)
    api_keys, exchange = ApiKeys(shared), KeyExchange(shared, settings)
    outside = Outside(shared.clock, shared.tools.settings.development)
    sign_ins = ProviderSignIns(shared, steps, outside, settings)
    return Parts(
        servicers={
            add_AuthorizationServicer_to_server: exchange,
            api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server: api_keys,
            oauth_client_pb2_grpc.add_OAuthClientServiceServicer_to_server: OAuthClients(shared),
            oauth_pb2_grpc.add_OAuthServiceServicer_to_server: OAuth(shared),
            passkey_pb2_grpc.add_PasskeyServiceServicer_to_server: Passkeys(shared, steps, settings),
            policy_pb2_grpc.add_PolicyServiceServicer_to_server: Policies(shared),
            provider_pb2_grpc.add_ProviderServiceServicer_to_server: Providers(shared, sign_ins),
            service_account_pb2_grpc.add_ServiceAccountServiceServicer_to_server: ServiceAccounts(
                shared, api_keys
            ),
        },
        loops=[exchange.run],
    )
