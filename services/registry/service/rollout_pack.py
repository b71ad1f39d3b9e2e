"""Rollouts as messages of the wire."""

from __future__ import annotations

from datetime import timedelta

from services.registry.domain import figures
from services.registry.domain.figures import Figures
from services.registry.domain.rollout_state import Rollout
from services.registry.service.moving import settings
from services.registry.service.pack import stamp
from weft.registry.v1 import rollout_pb2 as pb


def rollout(row: Rollout) -> pb.Rollout:
    given, counted = settings(row), figures.read(row.figures)
    made = pb.Rollout(
        rollout_id=str(row.rollout_id),
        settings=given,
        state=pb.RolloutState.Value(f"ROLLOUT_STATE_{row.state}"),
        reason=pb.RolloutReason.Value(f"ROLLOUT_REASON_{row.reason}"),
        step=row.step,
        stable=_version(given.stable_version, counted),
        canary=_version(given.canary_version, counted),
        create_time=stamp(row.created_at),
        update_time=stamp(row.updated_at),
    )
    made.watched.FromTimedelta(timedelta(milliseconds=row.watched_ms))
    return made


def _version(version: str, counted: Figures) -> pb.VersionFigures:
    calls, errors, timed, slow = counted.of(version).numbers()
    return pb.VersionFigures(version=version, calls=calls, errors=errors, timed=timed, slow=slow)
