"""Rows as messages of the wire."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.notification.bounce import Kind
from services.notification.catalogue import Catalogue, Template
from services.notification.domain import Attempt, Category, Mail, Message, State, Suppression
from services.notification.mailbox import Contents
from weft.notification.v1 import (
    mailbox_pb2,
    notification_pb2 as pb,
    suppression_pb2,
    template_pb2,
)

EMAIL = "email"
CHANNELS = {pb.CHANNEL_UNSPECIFIED: EMAIL, pb.CHANNEL_EMAIL: EMAIL}
STATES = {state: pb.MessageState.Value(f"MESSAGE_STATE_{state}") for state in State}
BOUNCES = {kind: suppression_pb2.BounceKind.Value(f"BOUNCE_KIND_{kind}") for kind in Kind}
CATEGORIES = {category: template_pb2.Category.Value(f"CATEGORY_{category}") for category in Category}
KINDS = {
    "text": template_pb2.TemplateValue.KIND_TEXT,
    "link": template_pb2.TemplateValue.KIND_LINK,
    "time": template_pb2.TemplateValue.KIND_TIME,
    "facts": template_pb2.TemplateValue.KIND_FACTS,
}


def message(row: Message) -> pb.Message:
    recipient = pb.Recipient(
        user_id=row.user_id, address=row.address, locale=row.locale, time_zone=row.time_zone
    )
    return pb.Message(
        message_id=str(row.message_id),
        template=row.template,
        channel=pb.CHANNEL_EMAIL,
        recipient=recipient,
        state=STATES[State(row.state)],
        attempts=row.attempts,
        create_time=stamp(row.create_time),
        update_time=stamp(row.update_time),
        next_attempt_time=stamp(row.due_at),
        sent_time=stamp(row.sent_at),
        values_erase_time=stamp(row.erase_at),
    )


def attempt(row: Attempt) -> pb.Attempt:
    return pb.Attempt(
        number=row.number,
        start_time=stamp(row.started_at),
        end_time=stamp(row.ended_at),
        code=row.code,
        status=row.status,
        reply=row.reply,
    )


def suppression(row: Suppression) -> suppression_pb2.Suppression:
    return suppression_pb2.Suppression(
        suppression_id=str(row.suppression_id),
        address=row.address,
        status=row.status,
        message_id=str(row.message_id),
        create_time=stamp(row.create_time),
    )


def template(known: Template, catalogue: Catalogue) -> template_pb2.Template:
    required = [
        template_pb2.TemplateValue(name=name, kind=KINDS[kind], required=True)
        for name, kind in known.required.items()
    ]
    optional = [
        template_pb2.TemplateValue(name=name, kind=KINDS[kind]) for name, kind in known.optional.items()
    ]
    return template_pb2.Template(
        name=known.name,
        category=CATEGORIES[known.category],
        locales=sorted(catalogue.words),
        values=[*required, *optional],
    )


def mail(row: Mail, read: Contents, *, whole: bool) -> mailbox_pb2.Mail:
    """Without its text unless `whole`."""
    packed = mailbox_pb2.Mail(
        mail_id=str(row.mail_id),
        sequence=row.sequence,
        receive_time=stamp(row.received_at),
        sender=row.sender,
        recipients=row.recipients,
        subject=read.subject,
        message_id_header=read.message_id,
        size_bytes=len(row.source),
    )
    setattr(packed, "from", read.sender)
    if whole:
        packed.text, packed.html = read.text, read.html
        packed.links.extend(read.links)
    return packed


def stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed
