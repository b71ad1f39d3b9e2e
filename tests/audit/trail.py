"""What tests of the trail have in common: events to fill it, and a hand to tamper with it."""

from services.audit.anchoring import Anchoring
from services.audit.signing import Signing
from services.chassis.clock import uuid7
from services.chassis.testing import Lab, until
from weft.audit.v1 import audit_pb2 as pb
from weft.audit.v1.audit_pb2_grpc import AuditServiceStub
from weft.notification.v1.events_pb2 import MessageSent


async def fill(lab: Lab, entries: int, user_id: str = "") -> None:
    """Announces so many events, and waits until they are all in the trail."""
    before = await length(lab)
    for n in range(1, entries + 1):
        await lab.announce(MessageSent(message_id=str(uuid7()), user_id=user_id, attempts=n))

    async def there() -> bool:
        return await length(lab) >= before + entries

    await until(there)


async def has(lab: Lab, entries: int) -> bool:
    """Whether the trail has so many."""
    return await length(lab) >= entries


async def length(lab: Lab) -> int:
    return int(await lab.db("audit").fetchval("select sequence from head"))


async def tamper(lab: Lab, *statements: str) -> None:
    """As somebody would who can do everything in the database."""
    connection = await lab.db("audit").dedicated()
    try:
        await connection.execute(
            "alter table entry disable trigger all; alter table anchor disable trigger all"
        )
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def empty(lab: Lab) -> None:
    """The trail as it was when the service was new."""
    await tamper(
        lab, "truncate entry", "update head set sequence = 0, hash = decode(repeat('00', 32), 'hex')"
    )
    await lab.db("audit").execute("alter table entry enable trigger all")
    await lab.db("audit").execute("alter table anchor enable trigger all")


def anchoring(lab: Lab) -> Anchoring:
    tools = lab.hosted.tools["audit"]
    signing = Signing("", (), lab.settings.mesh_key)
    return Anchoring(tools.db, tools.bus, tools.clock, signing, entries=1, seconds=1.0)


async def anchor(lab: Lab) -> int:
    """Signs the head; returns its sequence once the copy outside is there."""
    made = anchoring(lab)
    signed = await made.anchor()
    assert signed is not None

    async def outside() -> bool:
        return any(each.sequence == signed.sequence for each in await made.outside() or ())

    await until(outside)
    return signed.sequence


async def verify(lab: Lab, **range_: int) -> pb.VerifyChainResponse:
    stub = AuditServiceStub(lab.channel)
    answer: pb.VerifyChainResponse = await stub.VerifyChain(
        pb.VerifyChainRequest(**range_), metadata=lab.bearer()
    )
    return answer
