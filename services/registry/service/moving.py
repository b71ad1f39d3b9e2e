"""Moves a rollout: its row, the shares of its service's policy and its event, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from services.chassis.events import emit
from services.registry.domain import figures
from services.registry.domain.rollout import Action, Decision, Plan, Reason, Seen, Step, decide
from services.registry.domain.rollout_state import Rollout
from services.registry.domain.rules import OF
from services.registry.service import shares
from weft.registry.v1 import events_pb2 as events, rollout_pb2 as pb

FALSE_ROLLBACKS = 100  # Of OF, where the settings name no number.


def settings(row: Rollout) -> pb.RolloutSettings:
    return pb.RolloutSettings.FromString(row.settings)


def plan(settings: pb.RolloutSettings) -> Plan:
    slow = settings.slow_calls
    return Plan(
        steps=tuple(
            Step(each.share, each.min_time.ToTimedelta().total_seconds(), each.min_calls)
            for each in settings.steps
        ),
        error_margin=settings.error_margin / OF,
        slow_margin=slow.margin / OF if settings.HasField("slow_calls") else None,
        chance=(settings.false_rollbacks or FALSE_ROLLBACKS) / OF,
        deadline_s=settings.step_deadline.ToTimedelta().total_seconds(),
    )


@dataclass(frozen=True)
class Moving:
    """One rollout that has not ended, in a transaction."""

    change: shares.Change
    row: Rollout

    async def begin(self) -> None:
        """The first step."""
        given = settings(self.row)
        await self._say(
            events.RolloutStarted(stable_version=given.stable_version, canary_version=given.canary_version)
        )
        await self._deal(given.steps[0].share)

    async def look(self, readings: list[figures.Reading], passed_s: float) -> Decision:
        """Takes in what was counted, and does what follows from it."""
        row, given = self.row, settings(self.row)
        counted = figures.read(row.figures).after(readings)
        row.figures, row.watched_ms = figures.written(counted), row.watched_ms + round(passed_s * 1000)
        seen = Seen(
            step=row.step,
            watched_s=row.watched_ms / 1000,
            looks=row.looks,
            fresh=bool(readings),
            stable=counted.of(given.stable_version),
            canary=counted.of(given.canary_version),
            paused=row.state == "PAUSED",
        )
        decision = decide(plan(given), seen)
        row.looks = decision.looks
        if not seen.paused:
            row.reason = decision.reason.value
        await self._do(decision)
        return decision

    async def _do(self, decision: Decision) -> None:
        if decision.action is Action.STEP:
            await self._step()
        elif decision.action is Action.PROMOTE:
            await self.promote(Reason.NONE)
        elif decision.action is Action.ROLL_BACK:
            await self._back("ROLLED_BACK", decision.reason, events.RolloutRolledBack())
        elif decision.action is Action.PAUSE:
            await self.pause(decision.reason)

    async def _step(self) -> None:
        row = self.row
        row.step, row.watched_ms, row.looks = row.step + 1, 0, 0
        row.figures = figures.written(figures.read(row.figures).anew())
        share = settings(row).steps[row.step].share
        await self._say(events.RolloutStepped(step=row.step, share=share))
        await self._deal(share)

    async def pause(self, reason: Reason) -> None:
        self._be("PAUSED", reason)
        await self._say(events.RolloutPaused(reason=_reason(reason)))

    async def resume(self) -> None:
        self._be("RUNNING", Reason.NONE)
        self.row.watched_ms = 0
        await self._say(events.RolloutResumed())

    async def promote(self, reason: Reason) -> None:
        self._be("PROMOTED", reason)
        self.row.step = len(settings(self.row).steps)
        await self._say(events.RolloutPromoted())
        await self._deal(OF)

    async def abort(self) -> None:
        await self._back("ABORTED", Reason.ASKED, events.RolloutAborted())

    async def _back(self, state: str, reason: Reason, event: Message) -> None:
        self._be(state, reason)
        if isinstance(event, events.RolloutRolledBack):
            event.reason = _reason(reason)
        await self._say(event)
        await self._deal(0)

    def _be(self, state: str, reason: Reason) -> None:
        self.row.state, self.row.reason = state, reason.value

    async def _say(self, event: Message) -> None:
        row = self.row
        row.revision, row.updated_at = self.change.order.next(), self.change.now
        named = type(event)(rollout_id=str(row.rollout_id), service=row.service)
        event.MergeFrom(named)
        await emit(self.change.tx, event)

    async def _deal(self, share: int) -> None:
        """Of OF calls `share` to the canary."""
        given = settings(self.row)
        if share == OF:
            wanted = shares.between(given.canary_version, given.stable_version)
        else:
            wanted = shares.between(given.stable_version, given.canary_version, share)
        await shares.deal(self.change, self.row.service, wanted)


def _reason(reason: Reason) -> pb.RolloutReason.ValueType:
    return pb.RolloutReason.Value(f"ROLLOUT_REASON_{reason.value}")
