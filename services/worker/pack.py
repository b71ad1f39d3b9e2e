"""Between the contract's messages and rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.jobs.sending import seconds
from services.chassis.masks import etag
from services.worker.domain import Pool
from services.worker.runner import Room
from services.worker.scaling import Bounds, Seen
from weft.worker.v1 import worker_pb2 as pb


def in_force(given: pb.PoolSettings) -> pb.PoolSettings:
    """The settings with nothing absent."""
    made, usual, room = pb.PoolSettings(), Bounds(), Room()
    made.CopyFrom(given)
    made.slots, made.threads = made.slots or room.slots, made.threads or room.threads
    made.processes = made.processes or room.processes
    scaling = made.scaling
    if not scaling.HasField("workers_min"):
        scaling.workers_min = usual.workers_min
    scaling.workers_max = scaling.workers_max or max(1, scaling.workers_min)
    scaling.depth_per_worker = scaling.depth_per_worker or usual.depth_per_worker
    if not scaling.HasField("oldest_age"):
        scaling.oldest_age.CopyFrom(span(usual.oldest_age_s))
    if not scaling.HasField("cooldown"):
        scaling.cooldown.CopyFrom(span(usual.cooldown_s))
    return made


def bounds(scaling: pb.Scaling) -> Bounds:
    return Bounds(
        workers_min=scaling.workers_min,
        workers_max=scaling.workers_max,
        depth_per_worker=scaling.depth_per_worker,
        oldest_age_s=seconds(scaling.oldest_age),
        cooldown_s=seconds(scaling.cooldown),
    )


def settings_to_json(settings: pb.PoolSettings) -> dict[str, Any]:
    plain: dict[str, Any] = MessageToDict(settings)
    return plain


def settings_from_json(plain: dict[str, Any]) -> pb.PoolSettings:
    return ParseDict(plain, pb.PoolSettings(), ignore_unknown_fields=True)


def pool_to_pb(row: Pool, seen: Seen | None, workers: Sequence[pb.Worker]) -> pb.Pool:
    """`seen` is what was found in its queues last, `workers` are its own."""
    packed = pb.Pool(
        pool=row.pool,
        settings=settings_from_json(row.settings),
        state=cast("pb.PoolState.ValueType", row.state),
        workers_wanted=row.workers_wanted,
        workers=len(workers),
        running=sum(each.running for each in workers),
        create_time=stamp(row.create_time),
        update_time=stamp(row.update_time),
        etag=etag(row.revision),
    )
    if seen is not None:
        packed.depth = seen.depth
        if seen.depth:
            packed.oldest_age.CopyFrom(span(seen.oldest_age_s))
    return packed


def stamp(at: datetime) -> Timestamp:
    packed = Timestamp()
    packed.FromDatetime(at)
    return packed


def span(length_s: float) -> Duration:
    packed = Duration()
    packed.FromMilliseconds(int(length_s * 1000))
    return packed
