"""weft.billing.v1.DunningService."""

from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

from services.billing.domain.dunning import (
    Dunning,
    DunningAction,
    DunningPolicy,
    DunningPolicyIdReused,
    Policy,
    check,
    policy_from,
)
from services.billing.service.shared import Shared
from services.billing.service.stamps import maybe_id, stamp
from services.billing.store import dunning as store, invoice as invoices
from services.billing.store.once import written
from services.chassis.method import Call
from weft.billing.v1 import dunning_pb2 as pb
from weft.billing.v1.dunning_pb2_grpc import DunningServiceServicer


class Dunnings(DunningServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def CreateDunningPolicy(
        self, request: pb.CreateDunningPolicyRequest, call: Call
    ) -> pb.CreateDunningPolicyResponse:
        policy = from_pb(request.policy)
        check(policy)
        settings = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(policy).items()
        }
        row = DunningPolicy(
            policy_id=UUID(request.policy.policy_id),
            title=request.policy.title,
            settings=settings,
            created_at=self._shared.clock.now(),
        )
        async with self._shared.db.transaction() as tx:
            await written(tx, row)
            kept = await store.policy(tx, row.policy_id)
        if (kept.title, kept.settings) != (row.title, row.settings):
            raise DunningPolicyIdReused(policy_id=row.policy_id)
        return pb.CreateDunningPolicyResponse(policy=policy_to_pb(kept))

    async def GetDunningPolicy(
        self, request: pb.GetDunningPolicyRequest, call: Call
    ) -> pb.GetDunningPolicyResponse:
        async with self._shared.db.transaction() as tx:
            row = await store.policy(tx, UUID(request.policy_id))
        return pb.GetDunningPolicyResponse(policy=policy_to_pb(row))

    async def GetDunning(self, request: pb.GetDunningRequest, call: Call) -> pb.GetDunningResponse:
        async with self._shared.db.transaction() as tx:
            invoice = await invoices.get(tx, UUID(request.invoice_id), maybe_id(request.customer_id))
            row = await store.get(tx, invoice.invoice_id)
            actions = await store.actions(tx, invoice.invoice_id)
        return pb.GetDunningResponse(dunning=to_pb(row, actions) if row else None)


def from_pb(policy: pb.DunningPolicy) -> Policy:
    return Policy(
        attempts=tuple(sorted(policy.attempt_days)),
        reminders=tuple(sorted(policy.reminder_days)),
        block=policy.block_days if policy.HasField("block_days") else None,
        suspend=policy.suspend_days if policy.HasField("suspend_days") else None,
        give_up=policy.give_up_days,
        write_off=policy.write_off,
    )


def policy_to_pb(row: DunningPolicy) -> pb.DunningPolicy:
    policy = policy_from(row.settings)
    return pb.DunningPolicy(
        policy_id=str(row.policy_id),
        title=row.title,
        attempt_days=policy.attempts,
        reminder_days=policy.reminders,
        block_days=policy.block,
        suspend_days=policy.suspend,
        give_up_days=policy.give_up,
        write_off=policy.write_off,
    )


def to_pb(row: Dunning, actions: Sequence[DunningAction]) -> pb.Dunning:
    return pb.Dunning(
        invoice_id=str(row.invoice_id),
        policy_id=str(row.policy_id or ""),
        attempts=row.attempts,
        next_time=stamp(row.next_at),
        finish_time=stamp(row.finished_at),
        outcome=row.outcome or "",
        actions=[
            pb.DunningAction(
                action_id=str(action.action_id),
                kind=action.kind,
                state=action.state,
                detail=action.detail,
                create_time=stamp(action.created_at),
                end_time=stamp(action.ended_at),
            )
            for action in actions
        ],
    )
