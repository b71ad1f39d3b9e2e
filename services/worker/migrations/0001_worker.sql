-- Pools, one a row.
create table pool (
    pool text primary key,
    settings jsonb not null,
    state smallint not null,
    workers_wanted integer not null,
    -- When that number changed last.
    resize_time timestamptz not null,
    revision integer not null,
    create_time timestamptz not null,
    update_time timestamptz not null
);
