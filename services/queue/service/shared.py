"""What all servicers of the queue hold."""

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.db import Database
from services.chassis.host import Tools
from services.queue.service.ending import Endings
from services.queue.service.intake import Intake
from services.queue.service.known import Known
from services.queue.service.publishing import Publication
from services.queue.service.running import Running
from services.queue.service.tallying import Tally
from services.queue.service.wire import Wire
from services.queue.settings import QueueServiceSettings
from services.queue.store.days import Days


@dataclass(frozen=True, kw_only=True)
class Shared:
    """One of each in a process."""

    tools: Tools
    settings: QueueServiceSettings
    known: Known
    days: Days
    wire: Wire
    running: Running
    publication: Publication
    endings: Endings
    intake: Intake
    tally: Tally

    @property
    def db(self) -> Database:
        return self.tools.db

    @property
    def clock(self) -> Clock:
        return self.tools.clock

    @property
    def page_key(self) -> str:
        return self.tools.settings.mesh_key
