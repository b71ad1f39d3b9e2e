-- Which days are closed. `settings` is a weft.scheduler.v1.CalendarSettings.
create table calendar (
    calendar_id uuid primary key,
    name text not null,
    settings bytea not null,
    revision integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index calendar_by_name on calendar (name, calendar_id);

-- What runs when. `settings` is a weft.scheduler.v1.ScheduleSettings.
create table schedule (
    schedule_id uuid primary key,
    name text not null,
    settings bytea not null,
    calendar_id uuid references calendar,
    workflow_id uuid,
    paused boolean not null,
    anchor timestamptz not null,
    next_at timestamptz,
    due_at timestamptz,
    last_at timestamptz,
    revision integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index schedule_by_age on schedule (created_at, schedule_id);
create index schedule_due on schedule (due_at) where due_at is not null;
create index schedule_by_calendar on schedule (calendar_id) where calendar_id is not null;
create index schedule_by_workflow on schedule (workflow_id) where workflow_id is not null;

-- One run: written in the transaction that enqueues its job.
create table schedule_run (
    run_id uuid primary key,
    schedule_id uuid not null references schedule on delete cascade,
    nominal_at timestamptz not null,
    cause text not null check (cause in ('SCHEDULED', 'CAUGHT_UP', 'TRIGGERED', 'BACKFILLED')),
    state text not null check (
        state in ('WAITING', 'STARTED', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'SKIPPED', 'MISSED')
    ),
    reason text not null,
    job_id uuid unique,
    workflow_run_id uuid unique,
    created_at timestamptz not null,
    due_at timestamptz not null,
    started_at timestamptz,
    ended_at timestamptz
);
-- No run comes twice, whoever fires it.
create unique index schedule_run_once on schedule_run (schedule_id, nominal_at) where cause <> 'TRIGGERED';
create index schedule_run_by_time on schedule_run (schedule_id, nominal_at, run_id);
create index schedule_run_ended on schedule_run (ended_at) where ended_at is not null;
create index schedule_run_active on schedule_run (schedule_id, nominal_at)
    where state in ('WAITING', 'STARTED');

-- A job whose end is awaited, and when to ask for it should no event come.
create table awaited_job (
    job_id uuid primary key,
    asked_for_at timestamptz not null,
    ask_at timestamptz not null,
    cancel_at timestamptz
);
create index awaited_job_to_ask on awaited_job (ask_at);
create index awaited_job_to_cancel on awaited_job (cancel_at) where cancel_at is not null;
