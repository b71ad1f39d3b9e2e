"""An account's activity is numbered without gaps and told as it happens."""

import asyncio

import grpc.aio

from services.chassis.testing import until
from tests.identity.conftest import identity
from tests.identity.people import Person, World, refused
from tests.servers import Shared
from weft.identity.v1 import activity_pb2, user_pb2 as pb
from weft.identity.v1.sign_in_pb2 import SignOutRequest


async def rename(world: World, person: Person, name: str) -> None:
    request = pb.UpdateUserRequest(user_id=person.user_id, profile=pb.Profile(display_name=name))
    await world.users.UpdateUser(request, metadata=person.bearer)


async def test_stream_shows_activity_as_it_happens_and_ends_with_the_session(world: World) -> None:
    person = await world.person()
    request = activity_pb2.WatchActivityRequest(user_id=person.user_id)
    stream = world.activity.WatchActivity(request, metadata=person.bearer)
    first = (await stream.read()).activity
    second = (await stream.read()).activity
    kinds = activity_pb2.ActivityKind
    assert (first.sequence, first.kind) == (1, kinds.ACTIVITY_KIND_REGISTERED)
    assert (second.sequence, second.kind) == (2, kinds.ACTIVITY_KIND_SIGNED_IN)
    await rename(world, person, "Augusta")
    third = (await stream.read()).activity
    assert (third.sequence, third.kind) == (3, kinds.ACTIVITY_KIND_PROFILE_CHANGED)
    resumed = activity_pb2.WatchActivityRequest(user_id=person.user_id, after_sequence=2)
    again = world.activity.WatchActivity(resumed, metadata=person.bearer)
    assert (await again.read()).activity == third
    again.cancel()
    await world.sign_in_service.SignOut(SignOutRequest(), metadata=person.bearer)
    assert await refused(stream.read()) == "SESSION_ENDED"


async def test_account_has_so_many_streams_and_no_more(world: World) -> None:
    person = await world.person()
    request = activity_pb2.WatchActivityRequest(user_id=person.user_id)
    streams = [world.activity.WatchActivity(request, metadata=person.bearer) for _ in range(10)]
    for stream in streams:
        await stream.read()
    late = world.activity.WatchActivity(request, metadata=person.bearer)
    assert await refused(late.read()) == "TOO_MANY_STREAMS"
    for stream in streams:
        stream.cancel()

    async def room() -> bool:
        late = world.activity.WatchActivity(request, metadata=person.bearer)
        return await _answers(late)

    assert await until(room)


async def _answers(stream) -> bool:  # type: ignore[no-untyped-def] # grpc.aio names no public type.
    try:
        return bool(await stream.read())
    except grpc.aio.AioRpcError:
        return False


async def test_parallel_changes_are_numbered_without_gaps(world: World) -> None:
    person = await world.person()
    await asyncio.gather(*(world.sign_in() for _ in range(5)))
    listing = activity_pb2.ListActivityRequest(user_id=person.user_id)
    entries = (await world.activity.ListActivity(listing, metadata=person.bearer)).activities
    assert [entry.sequence for entry in entries] == [7, 6, 5, 4, 3, 2, 1]


async def test_silent_stream_shows_that_it_lives(postgres: str, servers: Shared) -> None:
    async with identity(postgres, servers.account(), {"WEFT_IDENTITY_HEARTBEAT_S": "0.05"}) as running:
        world = World(running, "heart00000")
        person = await world.person()
        request = activity_pb2.WatchActivityRequest(user_id=person.user_id, after_sequence=2)
        stream = world.activity.WatchActivity(request, metadata=person.bearer)
        for _ in range(3):
            assert (await stream.read()).HasField("heartbeat")
        stream.cancel()
