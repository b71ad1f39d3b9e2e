"""Rows as messages of the wire."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.audit import knowing
from services.audit.domain import Anchor, Entry
from services.audit.verifier import Verdict
from services.audit.verifying import Kind
from weft.audit.v1 import audit_pb2 as pb

KINDS = {kind: pb.Break.Kind.Value(f"KIND_{kind}") for kind in Kind}


def entry(row: Entry) -> pb.Entry:
    return pb.Entry(
        sequence=row.sequence,
        event_id=str(row.event_id),
        service=row.service,
        type=row.type,
        key=row.key,
        subject_id=row.subject_id,
        actor=row.actor,
        acting=row.acting,
        trace=row.trace,
        causation=row.causation,
        event_time=stamp(row.event_time),
        version=row.version,
        schema_version=row.schema_version,
        payload=row.payload,
        payload_hash=row.payload_hash,
        previous_hash=row.previous_hash,
        hash=row.hash,
        fields=knowing.fields(row.type, row.payload),
    )


def anchor(row: Anchor) -> pb.Anchor:
    return pb.Anchor(
        sequence=row.sequence,
        hash=row.hash,
        sign_time=stamp(row.sign_time),
        key_id=row.key_id,
        signature=row.signature,
    )


def verdict(found: Verdict) -> pb.VerifyChainResponse:
    packed = pb.VerifyChainResponse(
        intact=found.first_break is None,
        entries=found.entries,
        anchors=found.anchors,
        outside_anchors_read=found.outside_read,
        intact_until=found.intact_until,
    )
    if found.first_break:
        packed.first_break.kind = KINDS[found.first_break.kind]
        packed.first_break.sequence = found.first_break.sequence
        packed.first_break.last_sequence = found.first_break.last_sequence
    return packed


def stamp(at: datetime) -> Timestamp:
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed
