"""What a cluster has more than one of: where each listens, and what its processes are told of all."""

from collections.abc import Mapping
from dataclasses import replace

from launcher import nats, roster
from launcher.credentials import Credentials
from launcher.nats import Member
from launcher.ports import HOST, Ports
from launcher.roster import Group

MEMBERS = 3  # NATS servers: the least that outlives one, as two of three are a majority.
INSTANCES = 2  # Of each process of services, unless asked otherwise.
INSTANCES_MAX = 4  # As many mailboxes have a port.
# Where `Ports.cluster` and those behind it are.
SECOND, CLIENTS, MONITORS, ROUTES, MAILBOXES = 0, 1, 3, 5, 8


def servers(ports: Ports) -> tuple[int, int]:
    """PostgreSQL's ports; who is the primary is found out by asking."""
    return ports.postgres, ports.cluster + SECOND


def members(ports: Ports) -> list[Member]:
    first = Member("nats", ports.nats, ports.monitor, ports.cluster + ROUTES)
    others = [
        Member(
            name=f"nats-{place + 1}",
            port=ports.cluster + CLIENTS + place - 1,
            monitor=ports.cluster + MONITORS + place - 1,
            route=ports.cluster + ROUTES + place,
        )
        for place in range(1, MEMBERS)
    ]
    return [first, *others]


def mailbox(ports: Ports, instance: int) -> int:
    """Where an instance takes mail in development."""
    return ports.smtp if instance == 1 else ports.cluster + MAILBOXES + instance - 2


def wanted(ports: Ports, instances: int) -> dict[str, int]:
    """The ports that a cluster listens on beyond those of a mesh without, by what wants them."""
    found = {"cluster": ports.cluster + SECOND}
    for member in members(ports):
        found[f"{member.name}'s route"] = member.route
        if member.port != ports.nats:
            found |= {member.name: member.port, f"{member.name}'s monitor": member.monitor}
    for instance in range(2, instances + 1):
        found[f"mail server {instance}"] = mailbox(ports, instance)
    return found


def environment(
    group: Group, ports: Ports, credentials: Credentials, environ: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of one process, as roster's, but of servers that there are several of."""
    own = replace(ports, smtp=mailbox(ports, group.instance))
    return {**roster.environment(group, own, credentials, environ), **_several(group, ports, credentials)}


def _several(group: Group, ports: Ports, credentials: Credentials) -> dict[str, str]:
    urls = [f"nats://{nats.USER}:{credentials.nats}@{HOST}:{each.port}" for each in members(ports)]
    values = {"WEFT_NATS_URL": ",".join(urls), "WEFT_NATS_REPLICAS": str(MEMBERS)}
    hosts = ",".join(f"{HOST}:{port}" for port in servers(ports))
    for name in group.services:
        url = f"postgresql://{name}:{credentials.databases[name]}@{hosts}/{name}"
        values[f"WEFT_DATABASE_URL_{name.upper()}"] = f"{url}?target_session_attrs=read-write"
    return values
