create table checkpoint (
    job_id uuid primary key,
    run integer not null,
    attempt integer not null,
    step bigint not null,
    state bytea not null,
    at timestamptz not null
);
-- Who owns a lane of a keyed queue; the epoch rises with each new owner.
create table lane (
    queue text,
    lane integer,
    epoch bigint not null,
    worker text not null,
    until timestamptz not null,
    primary key (queue, lane)
);
create index lane_worker on lane (worker);
-- Workers that asked for lanes of a queue.
create table lane_asker (
    queue text,
    worker text,
    until timestamptz not null,
    primary key (queue, worker)
);
-- Slots of a limit that workers hold. `type` is empty for the whole queue's limit.
create table slot (
    queue text,
    type text,
    worker text,
    count integer not null,
    until timestamptz not null,
    primary key (queue, type, worker)
);
create table rate (
    queue text primary key,
    tokens double precision not null,
    at timestamptz not null
);

create table dead_letter (
    job_id uuid primary key,
    run integer not null,
    queue text not null,
    type text not null,
    reason smallint not null,
    kind text not null,
    attempts integer not null,
    fail_time timestamptz not null
);
create index dead_letter_queue on dead_letter (queue, job_id);

-- What ended in a minute, by queue and type: counts, and times in exponential bins.
create table stat (
    minute timestamptz,
    queue text,
    type text,
    process text,
    enqueued bigint not null,
    succeeded bigint not null,
    failed bigint not null,
    retried bigint not null,
    wait_bins integer[] not null,
    run_bins integer[] not null,
    wait_s_max double precision not null,
    run_s_max double precision not null,
    primary key (minute, queue, type, process)
);
