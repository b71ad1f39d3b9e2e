-- A graph of tasks. Its settings are those of its newest version.
create table workflow (
    workflow_id uuid primary key,
    name text not null,
    version integer not null check (version > 0),
    created_at timestamptz not null
);
create index workflow_by_age on workflow (created_at, workflow_id);

-- `settings` is a weft.scheduler.v1.WorkflowSettings; it never changes.
create table workflow_version (
    workflow_id uuid not null references workflow on delete cascade,
    version integer not null,
    settings bytea not null,
    created_at timestamptz not null,
    primary key (workflow_id, version)
);

-- Which events start the newest version, from when on.
create table workflow_trigger (
    workflow_id uuid not null references workflow on delete cascade,
    number integer not null,
    event_type text not null,
    since_at timestamptz not null,
    primary key (workflow_id, number)
);
create index workflow_trigger_by_type on workflow_trigger (event_type);

-- A run of one version. `revision` counts its transitions.
create table workflow_run (
    run_id uuid primary key,
    workflow_id uuid not null references workflow on delete cascade,
    version integer not null,
    state text not null check (
        state in ('RUNNING', 'STOPPING', 'COMPENSATING', 'SUCCEEDED', 'COMPENSATED', 'STUCK')
    ),
    input jsonb not null,
    cause text not null,
    failure text not null,
    successes integer not null,
    revision integer not null,
    created_at timestamptz not null,
    deadline_at timestamptz,
    ended_at timestamptz
);
create index workflow_run_by_age on workflow_run (created_at, run_id);
create index workflow_run_by_workflow on workflow_run (workflow_id, created_at, run_id);
create index workflow_run_ended on workflow_run (ended_at) where ended_at is not null;
create index workflow_run_deadline on workflow_run (deadline_at) where deadline_at is not null;

-- A task in a run. `succeeded_no` is its place among those whose effects are there.
create table task_run (
    run_id uuid not null references workflow_run on delete cascade,
    name text not null,
    state text not null check (
        state in (
            'PENDING', 'STARTED', 'SUCCEEDED', 'FAILED', 'SKIPPED', 'CANCELLED',
            'COMPENSATING', 'COMPENSATED', 'COMPENSATION_FAILED'
        )
    ),
    job_id uuid unique,
    undo_job_id uuid unique,
    reason text not null,
    end_reason text not null,
    output jsonb,
    succeeded_no integer,
    started_at timestamptz,
    deadline_at timestamptz,
    ended_at timestamptz,
    primary key (run_id, name)
);
create index task_run_deadline on task_run (deadline_at) where deadline_at is not null;
