"""Puts the service together."""

from collections.abc import Mapping

from services.audit import events, knowing
from services.audit.anchoring import Anchoring
from services.audit.service import Audit
from services.audit.settings import AuditSettings
from services.audit.signing import Signing
from services.audit.verifier import Verifier
from services.chassis.config import load
from services.chassis.host import Parts, Tools
from services.chassis.inbox import EVERY
from weft.audit.v1.audit_pb2_grpc import add_AuditServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(AuditSettings, environ, prefix="WEFT_AUDIT_")
    mesh_key = tools.settings.mesh_key
    signing = Signing(settings.anchor_key, settings.anchor_former_keys, mesh_key)
    anchoring = Anchoring(
        tools.db,
        tools.bus,
        tools.clock,
        signing,
        entries=settings.anchor_entries,
        seconds=settings.anchor_s,
    )
    knowing.learn()
    verifier = Verifier(tools.db, anchoring, signing)
    return Parts(
        servicers={add_AuditServiceServicer_to_server: Audit(tools.db, verifier, mesh_key)},
        consumers={EVERY: events.APPENDING},
        loops=[anchoring.run],
    )
