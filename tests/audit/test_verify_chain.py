"""Whatever is done to the trail behind the service's back, VerifyChain says where it begins."""

import pytest

from services.audit.domain import CHAIN, Entry, Head
from services.chassis.testing import Lab
from tests.audit import trail
from weft.audit.v1 import audit_pb2 as pb

Kind = pb.Break.Kind


async def resealed(lab: Lab, first: int, last: int, **changed: object) -> None:
    """Edits entry `first` and seals it and all up to `last` anew, and the head with them."""
    await trail.tamper(lab)
    async with lab.db("audit").transaction() as tx:
        previous = (await tx.get_one(Entry, first - 1)).hash
        for sequence in range(first, last + 1):
            entry = await tx.get_one(Entry, sequence)
            for name, value in changed.items() if sequence == first else ():
                setattr(entry, name, value)
            entry.previous_hash = previous
            entry.seal()
            previous = entry.hash
        head = await tx.get_one(Head, CHAIN)
        if last == head.sequence:
            head.hash = previous


async def test_untouched_trail_is_intact(lab: Lab) -> None:
    await trail.fill(lab, 12)
    await trail.anchor(lab)
    verdict = await trail.verify(lab)
    assert verdict.intact
    assert (verdict.entries, verdict.intact_until) == (12, 12)
    assert verdict.outside_anchors_read
    assert verdict.anchors == 2


async def test_empty_trail_is_intact(blank: Lab) -> None:
    verdict = await trail.verify(blank)
    assert verdict.intact
    assert verdict.entries == 0


@pytest.mark.parametrize(
    "edit",
    [
        "actor = 'user:somebody-else'",
        "payload = 'x'",
        "payload = 'x', payload_hash = sha256('x')",
        "event_time = event_time + interval '1 microsecond'",
        "version = version + 1",
        "event_id = gen_random_uuid()",
        "subject_id = 'a', key = 'b'",
        "previous_hash = sha256('x')",
        "hash = sha256('x')",
    ],
)
async def test_edited_entry_is_located(blank: Lab, edit: str) -> None:
    await trail.fill(blank, 9)
    await trail.tamper(blank, f"update entry set {edit} where sequence = 5")
    verdict = await trail.verify(blank)
    assert not verdict.intact
    assert verdict.first_break.kind == Kind.KIND_EDITED
    assert (verdict.first_break.sequence, verdict.first_break.last_sequence) == (5, 5)
    assert verdict.intact_until == 4


async def test_edited_entry_that_was_sealed_anew_is_located_by_its_successor(blank: Lab) -> None:
    await trail.fill(blank, 9)
    await resealed(blank, 5, 5, actor="user:somebody-else")
    verdict = await trail.verify(blank)
    assert (verdict.first_break.kind, verdict.first_break.sequence) == (Kind.KIND_EDITED, 5)


@pytest.mark.parametrize(("gone", "first", "last"), [("5", 5, 5), ("1", 1, 1), ("3, 4, 5", 3, 5)])
async def test_deleted_entries_are_located(blank: Lab, gone: str, first: int, last: int) -> None:
    await trail.fill(blank, 9)
    await trail.tamper(blank, f"delete from entry where sequence in ({gone})")
    verdict = await trail.verify(blank)
    assert verdict.first_break.kind == Kind.KIND_DELETED
    assert (verdict.first_break.sequence, verdict.first_break.last_sequence) == (first, last)


async def test_deleted_entry_whose_gap_was_closed_by_renumbering_is_located(blank: Lab) -> None:
    await trail.fill(blank, 9)
    await trail.tamper(
        blank,
        "delete from entry where sequence = 5",
        "update entry set sequence = sequence - 1 + 1000 where sequence > 5",
        "update entry set sequence = sequence - 1000 where sequence > 1000",
        "update head set sequence = 8",
    )
    verdict = await trail.verify(blank)
    assert (verdict.first_break.kind, verdict.first_break.sequence) == (Kind.KIND_MOVED, 5)


async def test_swapped_entries_are_located(blank: Lab) -> None:
    await trail.fill(blank, 9)
    await trail.tamper(
        blank,
        "update entry set sequence = 1000 where sequence = 4",
        "update entry set sequence = 4 where sequence = 7",
        "update entry set sequence = 7 where sequence = 1000",
    )
    verdict = await trail.verify(blank)
    assert (verdict.first_break.kind, verdict.first_break.sequence) == (Kind.KIND_MOVED, 4)


async def test_cut_tail_is_located_by_the_head(blank: Lab) -> None:
    await trail.fill(blank, 9)
    await trail.tamper(blank, "delete from entry where sequence > 6")
    verdict = await trail.verify(blank)
    assert verdict.first_break.kind == Kind.KIND_TRUNCATED
    assert (verdict.first_break.sequence, verdict.first_break.last_sequence) == (7, 9)


async def test_cut_tail_with_head_and_anchors_cut_too_is_caught_by_the_anchors_outside(lab: Lab) -> None:
    await trail.fill(lab, 9)
    await trail.anchor(lab)
    await trail.tamper(
        lab,
        "delete from entry where sequence > 6",
        "delete from anchor",
        "update head set sequence = 6, hash = (select hash from entry where sequence = 6)",
    )
    verdict = await trail.verify(lab)
    assert verdict.first_break.kind == Kind.KIND_TRUNCATED
    assert (verdict.first_break.sequence, verdict.first_break.last_sequence) == (7, 9)


async def test_whole_rest_sealed_anew_is_caught_between_two_anchors(lab: Lab) -> None:
    await trail.fill(lab, 4)
    await trail.anchor(lab)
    await trail.fill(lab, 5)
    await trail.anchor(lab)
    await resealed(lab, 6, 9, actor="user:somebody-else")
    await trail.tamper(lab, "delete from anchor where sequence = 9")
    verdict = await trail.verify(lab)
    assert verdict.first_break.kind == Kind.KIND_REWRITTEN
    assert (verdict.first_break.sequence, verdict.first_break.last_sequence) == (5, 9)


async def test_anchor_that_somebody_else_signed_agrees_with_nothing(lab: Lab) -> None:
    await trail.fill(lab, 4)
    await trail.anchor(lab)
    await trail.tamper(lab, "update anchor set signature = decode(repeat('00', 64), 'hex')")
    verdict = await trail.verify(lab)
    assert verdict.first_break.kind == Kind.KIND_REWRITTEN


async def test_range_is_verified_by_itself(blank: Lab) -> None:
    await trail.fill(blank, 9)
    await trail.tamper(blank, "update entry set actor = 'x' where sequence = 3")
    assert (await trail.verify(blank, first_sequence=4, last_sequence=8)).intact
    assert (await trail.verify(blank, first_sequence=4)).intact
    broken = await trail.verify(blank, last_sequence=5)
    assert (broken.first_break.kind, broken.first_break.sequence) == (Kind.KIND_EDITED, 3)


async def test_trail_refuses_changes_by_the_service_itself(blank: Lab) -> None:
    await trail.fill(blank, 2)
    for statement in ("update entry set actor = 'x'", "delete from entry", "truncate entry"):
        with pytest.raises(Exception, match="append-only"):
            await blank.db("audit").execute(statement)
