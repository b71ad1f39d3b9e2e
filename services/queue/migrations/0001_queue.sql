-- Queues, one a row.
create table queue (
    queue text primary key,
    kind smallint not null,
    settings jsonb not null,
    state smallint not null,
    note text not null,
    keyed boolean not null,
    lanes integer not null,
    revision integer not null,
    create_time timestamptz not null,
    update_time timestamptz not null
);
-- Names of deleted ones, of whose jobs there may be a record.
create table retired_queue (queue text primary key);
-- The rules by which jobs find their queue: one row.
create table routing (
    one boolean primary key default true check (one),
    rules jsonb not null,
    revision integer not null,
    update_time timestamptz not null
);
insert into routing (rules, revision, update_time) values ('[]', 1, now());

-- What was enqueued. Written once. A day's jobs are a partition, for ids are UUIDv7 and rise with time.
create table job (
    job_id uuid primary key,
    queue text not null,
    type text not null,
    priority smallint not null,
    key text not null,
    group_id uuid,
    labels text[] not null,
    due_at timestamptz,
    expire_at timestamptz,
    sequence bigint,
    routed_by text not null,
    envelope bytea not null
) partition by range (job_id);
-- Pages of lists, newest first, by what they are asked for (EXPLAIN: index scans backward, no sort).
create index job_by_queue on job (queue, job_id);
create index job_by_type on job (type, job_id);
create index job_by_key on job (key, job_id) where key <> '';
create index job_by_group on job (group_id, job_id) where group_id is not null;
-- What may expire now.
create index job_by_expire on job (expire_at) where expire_at is not null;

-- How each run ended. Written once, by whoever comes first.
create table job_final (
    job_id uuid,
    run integer,
    state smallint not null,
    reason smallint not null,
    queue text not null,
    type text not null,
    attempt integer not null,
    worker text not null,
    start_at timestamptz,
    end_at timestamptz not null,
    report bytea,
    primary key (job_id, run)
) partition by range (job_id);
create index job_final_queue on job_final (queue, state, job_id);
create index job_final_type on job_final (type, state, job_id);

-- Attempts that ended, those that ended a run well excepted: their row of job_final says it all.
create table attempt (
    job_id uuid,
    run integer,
    attempt integer,
    start_at timestamptz,
    outcome smallint not null,
    worker text not null,
    next_at timestamptz,
    report bytea not null,
    primary key (job_id, run, attempt, start_at)
) partition by range (job_id);

-- Where a recorded job's message stands in the stream. Without a sequence it must be published.
create table placement (
    job_id uuid primary key,
    sequence bigint,
    at timestamptz not null default now()
) partition by range (job_id);
create index placement_unpublished on placement (at) where sequence is null;

-- What operators changed of a job: rare.
create table steering (
    job_id uuid primary key,
    run integer not null default 1,
    priority smallint,
    due_at timestamptz,
    moves integer not null default 0,
    cancel_run integer,
    cancel_reason smallint
);
-- Who began a job's later runs, and why.
create table job_run (
    job_id uuid,
    run integer,
    at timestamptz not null,
    actor text not null,
    note text not null,
    primary key (job_id, run)
);

-- Jobs that were open when they were some time old; the younger ones are found in `job` itself.
create table job_open (
    job_id uuid primary key,
    queue text not null,
    type text not null
);
create index job_open_queue on job_open (queue, job_id);
create index job_open_type on job_open (type, job_id);
create table open_horizon (
    one boolean primary key default true check (one),
    up_to uuid not null
);
insert into open_horizon (up_to) values ('00000000-0000-0000-0000-000000000000');

-- Unique keys. At most one job holds each; what no longer counts is released, and deleted later.
create table unique_key (
    name text not null,
    job_id uuid not null,
    until timestamptz,
    released boolean not null default false
);
create unique index unique_key_taken on unique_key (name) where not released;
create index unique_key_job on unique_key (job_id);

-- Jobs that wait for others.
create table blocked (
    job_id uuid primary key,
    policy smallint not null
);
create table dependency (
    on_job_id uuid,
    job_id uuid,
    primary key (on_job_id, job_id)
);
create index dependency_job on dependency (job_id);

create table job_group (
    group_id uuid primary key,
    callback bytea,
    jobs integer,
    succeeded integer not null default 0,
    failed integer not null default 0,
    cancelled integer not null default 0,
    expired integer not null default 0,
    create_time timestamptz not null,
    end_time timestamptz,
    callback_job_id uuid
);
