"""What browsers and authenticators say, by the rules of WebAuthn Level 3: the one user of the library."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import options_to_json_dict
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from webauthn.registration.verify_registration_response import VerifiedRegistration

from services.identity.domain.passkey import CHALLENGE_S, Passkey, usable_transports
from services.identity.federation_settings import FederationSettings

ALGORITHMS = [  # The library's own three, ours first.
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
KNOWN_TRANSPORTS = {each.value: each for each in AuthenticatorTransport}
Json = Mapping[str, Any]


class Unverified(Exception):
    """What the browser sent does not verify; why is nobody's business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrant:
    """Who registers, as authenticators show it."""

    user_id: UUID
    email: str
    display_name: str


class RelyingParty:
    """This mesh, as authenticators know it."""

    def __init__(self, settings: FederationSettings, edge_url: str) -> None:
        self._settings, self._origins = settings, settings.origins(edge_url)

    def creation(self, who: Registrant, challenge: bytes, present: Sequence[Passkey]) -> dict[str, Any]:
        """PublicKeyCredentialCreationOptionsJSON: a discoverable credential, its person verified."""
        options = generate_registration_options(
            rp_id=self._settings.passkey_rp_id,
            rp_name=self._settings.passkey_rp_name,
            user_id=who.user_id.bytes,
            user_name=who.email,
            user_display_name=who.display_name,
            challenge=challenge,
            timeout=CHALLENGE_S * 1000,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[_descriptor(passkey) for passkey in present],
            supported_pub_key_algs=ALGORITHMS,
        )
        return options_to_json_dict(options)

    def request(self, challenge: bytes, allowed: Sequence[Passkey]) -> dict[str, Any]:
        """PublicKeyCredentialRequestOptionsJSON."""
        options = generate_authentication_options(
            rp_id=self._settings.passkey_rp_id,
            challenge=challenge,
            timeout=CHALLENGE_S * 1000,
            allow_credentials=[_descriptor(passkey) for passkey in allowed],
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return options_to_json_dict(options)

    def registered(self, credential: Json, challenge: bytes) -> VerifiedRegistration:
        """Raises Unverified."""
        _require_same_origin(credential)
        try:
            return verify_registration_response(
                credential=dict(credential),
                expected_challenge=challenge,
                expected_rp_id=self._settings.passkey_rp_id,
                expected_origin=self._origins,
                require_user_verification=True,
                supported_pub_key_algs=ALGORITHMS,
            )
        except Exception as error:  # A parser of foreign bytes raises many kinds; all mean no.
            raise Unverified from error

    def asserted(self, credential: Json, challenge: bytes, passkey: Passkey) -> int:
        """The authenticator's counter, not yet compared. Raises Unverified."""
        _require_same_origin(credential)
        handle = _part(credential, "userHandle")
        if handle is not None and handle != passkey.user_id.bytes:
            raise Unverified
        try:
            verified = verify_authentication_response(
                credential=dict(credential),
                expected_challenge=challenge,
                expected_rp_id=self._settings.passkey_rp_id,
                expected_origin=self._origins,
                credential_public_key=passkey.public_key,
                credential_current_sign_count=0,
                require_user_verification=True,
            )
        except Exception as error:  # As in `registered`.
            raise Unverified from error
        return verified.new_sign_count


def credential_id(credential: Json) -> bytes:
    """Raises Unverified."""
    decoded = _decoded(credential.get("rawId"))
    if not decoded:
        raise Unverified
    return decoded


def transports(credential: Json) -> list[str]:
    response = credential.get("response")
    return usable_transports(response.get("transports")) if isinstance(response, dict) else []


def _descriptor(passkey: Passkey) -> PublicKeyCredentialDescriptor:
    known = [KNOWN_TRANSPORTS[name] for name in passkey.transports if name in KNOWN_TRANSPORTS]
    return PublicKeyCredentialDescriptor(id=passkey.credential_id, transports=known or None)


def _require_same_origin(credential: Json) -> None:
    """Refuses a ceremony inside a frame of another site (WebAuthn Level 3 §13.4.9)."""
    text = _part(credential, "clientDataJSON")
    try:
        data = json.loads(text or b"")
    except ValueError:
        raise Unverified from None
    if not isinstance(data, dict) or data.get("crossOrigin") or data.get("topOrigin"):
        raise Unverified


def _part(credential: Json, name: str) -> bytes | None:
    response = credential.get("response")
    return _decoded(response.get(name)) if isinstance(response, dict) else None


def _decoded(text: object) -> bytes | None:
    """None: absent. Raises Unverified."""
    if text is None:
        return None
    try:
        return base64.b64decode(str(text) + "=" * (-len(str(text)) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Unverified from None
