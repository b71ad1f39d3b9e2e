"""A glance at what is due: one statement without a transaction, which is all that an idle service does."""

from datetime import datetime

from services.chassis.db import Database

SCHEDULES = "select min(due_at) from schedule"
CANCELLATIONS = "select exists(select from awaited_job where cancel_at <= $1)"
QUESTIONS = "select exists(select from awaited_job where ask_at <= $1)"
DELIVERIES = "select exists(select from webhook_delivery where due_at <= $1)"
DEADLINES = """
select exists(select from workflow_run where deadline_at <= $1)
    or exists(select from task_run where deadline_at <= $1)
"""


async def next_schedule(db: Database) -> datetime | None:
    """When the next schedule is due; None: there is none."""
    at: datetime | None = await db.fetchval(SCHEDULES)
    return at


async def is_due(db: Database, what: str, now: datetime) -> bool:
    """Whether any of `what` (a statement of this module) is due."""
    return bool(await db.fetchval(what, now))
