"""What identity's servicers share, and small readings of a call."""

from dataclasses import dataclass
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.config import BadSetting
from services.chassis.db import Database
from services.chassis.host import Tools
from services.chassis.method import Call
from services.identity.domain.sealing import BadKey, Sealer
from services.identity.domain.session import USER_AGENT_CHARS_MAX
from services.identity.domain.token import Device, Naming
from services.identity.domain.user import PersonsOnly
from services.identity.service.aftermath import Aftermath
from services.identity.service.hashing import Hasher
from services.identity.service.issuing import Issuer
from services.identity.service.journal import Journal
from services.identity.service.keyring import Keyring
from services.identity.service.word_lists import WordLists, read
from services.identity.settings import PREFIX, IdentitySettings


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Made once, by app.py."""

    tools: Tools
    settings: IdentitySettings
    lists: WordLists
    sealer: Sealer
    keyring: Keyring
    journal: Journal
    issuer: Issuer
    hasher: Hasher
    aftermath: Aftermath

    @property
    def db(self) -> Database:
        return self.tools.db

    @property
    def clock(self) -> Clock:
        return self.tools.clock


def shared(tools: Tools, settings: IdentitySettings) -> Shared:
    """Raises BadSetting."""
    if not tools.settings.development:
        settings.refuse_development_key()
    try:
        sealer = Sealer(settings.encryption_key)
    except BadKey as error:
        raise BadSetting(f"{PREFIX}ENCRYPTION_KEY: {error}") from None
    keyring = Keyring(tools.db, tools.keys, sealer, tools.clock, settings)
    journal = Journal(tools.clock)
    naming = Naming(issuer=tools.settings.issuer, audience=tools.settings.audience)
    return Shared(
        tools=tools,
        settings=settings,
        lists=read(settings),
        sealer=sealer,
        keyring=keyring,
        journal=journal,
        issuer=Issuer(keyring, journal, tools.clock, naming, settings.access_s),
        hasher=Hasher(settings),
        aftermath=Aftermath(tools.db, journal),
    )


def own_id(call: Call) -> UUID:
    """The person who calls. Raises PersonsOnly for machines."""
    if call.caller.kind != "user":
        raise PersonsOnly
    return UUID(call.caller.subject)


def device(call: Call, name: str = "") -> Device:
    """Where the call comes from."""
    agent = call.header("user-agent")
    if agent.startswith("grpc-") and (named := call.header("x-user-agent")):
        agent = named  # A library names itself; the program behind it may say more.
    agent = agent[:USER_AGENT_CHARS_MAX]
    return Device(name=name or _named(agent), user_agent=agent, address=call.peer())


BROWSERS = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def _named(agent: str) -> str:
    """`Firefox on Linux`; of other programs the first word."""
    browser = next((name for mark, name in BROWSERS if mark in agent), "")
    system = next((name for mark, name in SYSTEMS if mark in agent), "")
    if browser:
        return f"{browser} on {system}" if system else browser
    return agent.split(" ")[0].split("/")[0] or "unknown"
