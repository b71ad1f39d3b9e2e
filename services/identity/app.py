"""Puts the service together."""

from collections.abc import Mapping
from functools import partial

from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.identity.events import Mails
from services.identity.federation import federation
from services.identity.service.activities import Activities
from services.identity.service.bootstrap import bootstrap
from services.identity.service.email_change import EmailChanges
from services.identity.service.keys import SigningKeys
from services.identity.service.passwords import Passwords
from services.identity.service.proving import Prover
from services.identity.service.roles import Roles
from services.identity.service.second_factors import SecondFactors
from services.identity.service.second_step import SecondSteps
from services.identity.service.sessions import Sessions
from services.identity.service.shared import shared
from services.identity.service.sign_in import SignIn
from services.identity.service.upkeep import upkeep
from services.identity.service.user_import import UserImports
from services.identity.service.users import Users
from services.identity.settings import PREFIX, IdentitySettings
from weft.identity.v1 import (
    activity_pb2_grpc,
    email_pb2_grpc,
    key_pb2_grpc,
    password_pb2_grpc,
    role_pb2_grpc,
    second_factor_pb2_grpc,
    session_pb2_grpc,
    sign_in_pb2_grpc,
    user_import_pb2_grpc,
    user_pb2_grpc,
)
from weft.identity.v1.events_pb2 import PasswordResetAsked


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    common = shared(tools, load(IdentitySettings, environ, PREFIX))
    prover = Prover(common)
    steps, passwords = SecondSteps(common, prover), Passwords(common, prover)
    outer = federation(common, steps, environ)
    mails = Mails(tools.mesh, common.sealer, tools.settings.edge_url)
    return Parts(
        servicers={
            activity_pb2_grpc.add_ActivityServiceServicer_to_server: Activities(common),
            email_pb2_grpc.add_EmailServiceServicer_to_server: EmailChanges(common),
            key_pb2_grpc.add_KeyServiceServicer_to_server: SigningKeys(common.keyring),
            password_pb2_grpc.add_PasswordServiceServicer_to_server: passwords,
            role_pb2_grpc.add_RoleServiceServicer_to_server: Roles(common),
            second_factor_pb2_grpc.add_SecondFactorServiceServicer_to_server: SecondFactors(
                common, prover, steps
            ),
            session_pb2_grpc.add_SessionServiceServicer_to_server: Sessions(common),
            sign_in_pb2_grpc.add_SignInServiceServicer_to_server: SignIn(common, prover, steps),
            user_import_pb2_grpc.add_UserImportServiceServicer_to_server: UserImports(common),
            user_pb2_grpc.add_UserServiceServicer_to_server: Users(common, prover),
            **outer.servicers,
        },
        consumers={PasswordResetAsked: passwords.resolve, **mails.handlers()},
        loops=[common.keyring.run, common.aftermath.run, partial(upkeep, common), *outer.loops],
        starts=[common.keyring.refresh, partial(bootstrap, common)],
    )
