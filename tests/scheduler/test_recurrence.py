"""Recurrences: libical's vectors, python-dateutil where both mean the same, and rules that never match."""

# ruff: noqa: DTZ001 - wall times
import re
import tarfile
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings, strategies as st

from services.scheduler.domain.expansion import wall_times
from services.scheduler.domain.rrule import BadRecurrence, parse, stamp
from tests.data import shared

UTC = ZoneInfo("UTC")
TICK = timedelta(seconds=1)
# DTSTART is no instance of these rules: RFC 5545 3.8.5.3 leaves the set undefined.
UNDEFINED = {
    ("FREQ=YEARLY;BYWEEKNO=53;INTERVAL=6;BYDAY=TH;COUNT=1", "20270103T000000Z"),
    ("FREQ=YEARLY;BYWEEKNO=53;INTERVAL=5;BYDAY=TH;COUNT=1", "20270103T000000Z"),
}
BY_PARTS = {
    "BYMONTH": range(1, 13),
    "BYMONTHDAY": [*range(1, 32), *range(-5, 0)],
    "BYDAY": ["MO", "TU", "WE", "TH", "FR", "SA", "SU"],
    "BYHOUR": range(24),
    "BYMINUTE": range(60),
}


def vectors() -> list[dict[str, str]]:
    text = (shared("12_time") / "libical" / "icalrecur_test.txt").read_text()
    blocks = [dict(re.findall(r"^([A-Z-]+):(.*)$", block, re.M)) for block in text.split("\n\n")]
    return [block for block in blocks if "RRULE" in block]


def test_every_rule_has_the_instances_of_the_vectors() -> None:
    checked = 0
    for vector in vectors():
        wanted = vector["INSTANCES"].strip()
        if wanted.startswith("***") or (vector["RRULE"], vector["DTSTART"]) in UNDEFINED:
            continue
        recurrence = parse(f"DTSTART:{vector['DTSTART']}\nRRULE:{vector['RRULE']}", UTC)
        instances = [stamp(each, UTC) for each in wanted.split(",") if each]
        found = list(islice(wall_times(recurrence, recurrence.start - TICK), len(instances)))
        assert found == instances, vector
        if "START-AT" in vector:
            since = stamp(vector["START-AT"], UTC)
            found = list(wall_times(recurrence, since - TICK))
            assert found == [at for at in instances if at >= since], vector
        checked += 1
    assert checked == 143


def test_recurrences_of_calendars_in_use_are_read() -> None:
    archive = shared("12_time") / "allenporter_ical_testdata.tar.gz"
    found = 0
    with tarfile.open(archive) as calendars:
        for member in calendars:
            file = calendars.extractfile(member) if member.name.endswith(".ics") else None
            text = re.sub(r"\r?\n[ \t]", "", file.read().decode()) if file else ""
            for event in re.findall(r"BEGIN:VEVENT(.*?)END:VEVENT", text, re.S):
                lines = re.findall(r"^(DTSTART|RRULE|RDATE|EXDATE)(;[^:]*)?:(.*?)\r?$", event, re.M)
                if "RRULE" not in {kind for kind, _, _ in lines}:
                    continue
                # Zones are those of the file; here all of it is read as wall time.
                bare = [f"{kind}{re.sub(';TZID=[^:;]+', '', rest)}:{value}" for kind, rest, value in lines]
                recurrence = parse("\n".join(bare), UTC)
                found += next(wall_times(recurrence, recurrence.start - TICK), None) is not None
    assert found == 17, "of 18 one ends, in its own zone, when it begins"


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Rules that python-dateutil reads as RFC 5545 means them."""
    frequency = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, 5))}"]
    allowed = set(BY_PARTS) - ({"BYMONTHDAY"} if frequency in ("WEEKLY", "YEARLY") else set())
    for name in sorted(draw(st.sets(st.sampled_from(sorted(allowed)), max_size=3))):
        values = draw(st.lists(st.sampled_from(list(BY_PARTS[name])), min_size=1, max_size=4, unique=True))
        parts.append(f"{name}={','.join(map(str, values))}")
    return ";".join(parts)


@settings(max_examples=60, deadline=None)
@given(rules(), st.datetimes(datetime(1997, 1, 1), datetime(2010, 1, 1)), st.integers(0, 1_000))
def test_any_rule_goes_on_from_any_day_as_dateutil_has_it(rule: str, start: datetime, days: int) -> None:
    start = start.replace(microsecond=0)
    after = start + timedelta(days=days)
    until = after + timedelta(days=400)
    bounded = f"{rule};UNTIL={until:%Y%m%dT%H%M%S}"
    recurrence = parse(f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{bounded}", UTC)
    try:
        wanted = [at for at in rrulestr(bounded, dtstart=start) if at > after]
    except ValueError:  # It says so at once of some rules that match nothing.
        wanted = []
    assert list(islice(wall_times(recurrence, after), 50)) == wanted[:50]


@pytest.mark.parametrize("frequency", ["SECONDLY", "HOURLY", "DAILY", "MONTHLY", "YEARLY"])
def test_a_rule_that_matches_nothing_comes_to_an_end(frequency: str) -> None:
    recurrence = parse(f"DTSTART:19970902T090000\nRRULE:FREQ={frequency};BYMONTH=2;BYMONTHDAY=30", UTC)
    assert next(wall_times(recurrence, datetime(2026, 1, 1)), None) is None


def test_dates_are_added_and_taken_away() -> None:
    text = (
        "DTSTART;TZID=Europe/Berlin:20260105T090000\nRRULE:FREQ=WEEKLY;COUNT=4\n"
        "EXDATE;TZID=Europe/Berlin:20260112T090000,20260119\n T090000\nRDATE:20260113T110000Z"
    )
    recurrence = parse(text, ZoneInfo("Europe/Berlin"))
    found = [at.isoformat() for at in wall_times(recurrence, datetime(2026, 1, 1))]
    assert found == ["2026-01-05T09:00:00", "2026-01-13T12:00:00", "2026-01-26T09:00:00"]


@pytest.mark.parametrize(
    "text",
    [
        "RRULE:FREQ=DAILY",
        "DTSTART:20260101\nDTSTART:20260102",
        "DTSTART:20261301T000000",
        "DTSTART;TZID=Asia/Tokyo:20260101T000000",
        "DTSTART:20260101T000000\nRRULE:FREQ=FORTNIGHTLY",
        "DTSTART:20260101T000000\nRRULE:FREQ=DAILY;COUNT=1;UNTIL=20260202",
        "DTSTART:20260101T000000\nRRULE:FREQ=DAILY;INTERVAL=0",
        "DTSTART:20260101T000000\nRRULE:FREQ=DAILY;BYMONTHDAY=32",
        "DTSTART:20260101T000000\nRRULE:FREQ=DAILY;BYHOUR=-1",
        "DTSTART:20260101T000000\nRRULE:FREQ=WEEKLY;BYDAY=1MO",
        "DTSTART:20260101T000000\nRRULE:FREQ=YEARLY;RSCALE=HEBREW",
        "DTSTART:20260101T000000\nRRULE:FREQ=DAILY;COUNT=²",
        "DTSTART:20260101T000000\nEXRULE:FREQ=DAILY",
    ],
)
def test_what_is_no_recurrence_is_refused(text: str) -> None:
    with pytest.raises(BadRecurrence):
        parse(text, UTC)
