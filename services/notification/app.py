"""Puts the service together."""

from collections.abc import Mapping

from services.chassis.config import BadSetting, load
from services.chassis.host import Parts, Tools
from services.notification import catalogue
from services.notification.bouncing import Bouncer
from services.notification.composing import Composer
from services.notification.delivering import Deliverer
from services.notification.mailbox import Mailbox
from services.notification.quiet import parse
from services.notification.rendering import Renderer
from services.notification.sealing import Sealing
from services.notification.sender import Sender
from services.notification.service.mail import MailboxMail
from services.notification.service.messages import Means, Messages
from services.notification.settings import NotificationSettings
from services.notification.smtp import Email
from weft.notification.v1.mailbox_pb2_grpc import add_MailboxServiceServicer_to_server
from weft.notification.v1.notification_pb2_grpc import add_NotificationServiceServicer_to_server


def build(tools: Tools, environ: Mapping[str, str] | None = None) -> Parts:
    settings = load(NotificationSettings, environ, prefix="WEFT_NOTIFICATION_")
    if settings.mailbox and not tools.settings.development:
        raise BadSetting("WEFT_NOTIFICATION_MAILBOX is for development only (WEFT_DEVELOPMENT=1)")
    box = Mailbox(tools.db, tools.clock, settings.mailbox_address) if settings.mailbox else None
    known = catalogue.read()
    renderer = Renderer(known, settings.product)
    sealing = Sealing(settings.key or tools.settings.mesh_key)
    unsubscribe = settings.unsubscribe_url or f"{tools.settings.edge_url}/v1/unsubscribe"
    relay = (settings.smtp_host, settings.smtp_port)
    email = Email(settings, renderer, sealing, lambda: box.address if box else relay, unsubscribe)
    channels = {"email": email}
    deliverer = Deliverer(tools.db, tools.clock, known, channels, sealing, settings)
    sender = Sender(
        tools.db,
        tools.bus,
        tools.clock,
        deliverer,
        room=settings.smtp_connections_max,
        lease_s=settings.lease_s,
    )
    means = Means(
        db=tools.db,
        bus=tools.bus,
        clock=tools.clock,
        catalogue=known,
        renderer=renderer,
        composer=Composer(known, channels, sealing, parse(settings.quiet_hours)),
        sealing=sealing,
        bouncer=Bouncer(tools.db, tools.clock, sealing, deliverer),
        page_key=tools.settings.mesh_key,
    )
    return Parts(
        servicers={
            add_NotificationServiceServicer_to_server: Messages(means),
            add_MailboxServiceServicer_to_server: MailboxMail(tools.db, box, tools.settings.mesh_key),
        },
        loops=[*([box.run] if box else []), sender.run, sender.wake, sender.erase],
    )
