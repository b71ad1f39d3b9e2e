"""Cron expressions: the outside vectors, and what is ours beside them."""

# ruff: noqa: DTZ001 - wall times
import csv
from datetime import datetime
from itertools import islice

import pytest

from services.scheduler.domain.cron import BadCron, wall_times
from tests.data import shared

FOLDER = "12_time"


def rows(name: str) -> list[dict[str, str]]:
    with (shared(FOLDER) / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_expression_has_the_next_times_of_the_vectors() -> None:
    for row in rows("cron_next_times.csv"):
        wanted = row["next_times"].split()
        try:
            found = islice(
                wall_times(row["expression"], datetime.fromisoformat(row["start_local"])), len(wanted) or 1
            )
            assert [at.isoformat() for at in found] == wanted, row
        except BadCron:
            assert row["never"], row


def test_every_expression_of_the_vectors_is_taken_or_refused_as_they_say() -> None:
    found = rows("cron_valid_invalid.csv")
    assert len(found) == 257
    for row in found:
        try:
            wall_times(row["expression"], datetime(2020, 1, 1))
            taken = "1"
        except BadCron:
            taken = "0"
        assert taken == row["valid"], row


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("0 9 15W * *", ["2026-08-14", "2026-09-15", "2026-10-15", "2026-11-16"]),
        ("0 9 1W * *", ["2026-08-03", "2026-09-01", "2026-10-01", "2026-11-02"]),
        ("0 9 31W * *", ["2026-08-31", "2026-10-30", "2026-12-31", "2027-01-29"]),
        ("0 9 1W,LW * *", ["2026-08-03", "2026-08-31", "2026-09-01", "2026-09-30"]),
    ],
)
def test_the_nearest_weekday_stays_in_its_month(expression: str, wanted: list[str]) -> None:
    found = islice(wall_times(expression, datetime(2026, 8, 1)), 4)
    assert [at.date().isoformat() for at in found] == wanted


def test_macros_mean_what_crontab_says() -> None:
    first = {name: next(wall_times(name, datetime(2026, 5, 20, 10, 30))) for name in ("@yearly", "@Weekly")}
    assert first == {"@yearly": datetime(2027, 1, 1), "@Weekly": datetime(2026, 5, 24)}


@pytest.mark.parametrize(
    "expression", ["", "@reboot", "32W * * * *", "* * 0W * *", "* * 32W * *", "* * W * *"]
)
def test_what_is_no_expression_is_refused_with_the_field(expression: str) -> None:
    with pytest.raises(BadCron) as refused:
        wall_times(expression, datetime(2026, 1, 1))
    assert refused.value.facts["field"] == "schedule.timing.cron"
