"""A message as it is written down, from what was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.notification.catalogue import Catalogue
from services.notification.channel import Channel
from services.notification.domain import WAKE_FIRST, Category, ChannelNotOffered, Message, State
from services.notification.quiet import QuietHours
from services.notification.rendering import zone
from services.notification.sealing import Sealing


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a caller asked for."""

    message_id: UUID
    template: str
    channel: str
    user_id: str
    address: str
    locale: str
    time_zone: str
    values: Mapping[str, str]
    body: bytes  # All of it, byte for byte the same when asked for again.


class Composer:
    """Checks what was asked for and makes the row."""

    def __init__(
        self, catalogue: Catalogue, channels: Mapping[str, Channel], sealing: Sealing, quiet: QuietHours
    ) -> None:
        self._catalogue, self._channels, self._sealing, self._quiet = catalogue, channels, sealing, quiet

    def row(self, wanted: Wanted, now: datetime) -> Message:
        """Raises UnknownTemplate, MissingValue, BadValue, BadAddress, ChannelNotOffered."""
        template = self._catalogue.template(wanted.template)
        if wanted.channel not in self._channels:
            raise ChannelNotOffered(channel=wanted.channel)
        address = self._channels[wanted.channel].address(wanted.address)
        template.values(wanted.values)
        due = now
        if template.category is not Category.SECURITY:
            due = self._quiet.until(now, zone(wanted.time_zone))
        return Message(
            message_id=wanted.message_id,
            body_mac=self._sealing.body_mac(wanted.body),
            template=wanted.template,
            channel=wanted.channel,
            category=template.category,
            user_id=wanted.user_id,
            address=address,
            locale=wanted.locale,
            time_zone=wanted.time_zone,
            sealed_values=self._sealing.seal(wanted.values, wanted.message_id),
            state=State.QUEUED,
            attempts=0,
            create_time=now,
            update_time=now,
            resting=True,
            due_at=due,
            wake_at=due if due > now else now + WAKE_FIRST,
            sent_at=None,
            erase_at=None,
        )
