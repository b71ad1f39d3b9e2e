-- The one row that puts all changes in order: its lock is taken first by whoever changes what deciders know.
create table ratelimit_state (
    only_one boolean primary key default true check (only_one),
    revision bigint not null
);
insert into ratelimit_state (revision) values (0);

create table rate_limit (
    rate_limit_id uuid primary key,
    name text not null,
    prefix text not null,
    plans text[] not null,
    keys text[] not null,
    key_kind text not null check (key_kind in ('EVERYBODY', 'USER', 'API_KEY', 'PLAN', 'ADDRESS', 'HEADER')),
    header text not null,
    unit text not null check (unit in ('SECOND', 'MINUTE', 'HOUR', 'DAY', 'MONTH')),
    requests bigint not null,
    burst bigint not null,
    failure text not null check (failure in ('OPEN', 'CLOSED')),
    shadow boolean not null,
    priority bigint not null,
    start_at timestamptz,
    end_at timestamptz,
    generation bigint not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create unique index rate_limit_by_name on rate_limit (name);
create index rate_limit_by_age on rate_limit (created_at, rate_limit_id);

-- What was used of rates. Unlogged: no write of it waits for the disk. After a crash of PostgreSQL all rates
-- begin anew, which lets each key make one burst more. Times are nanoseconds of Unix time by the database's
-- clock. The columns from `at` on are what the last taking asked.
create unlogged table rate_bucket (
    rate_limit_id uuid not null,
    generation bigint not null,
    key text not null,
    tat bigint not null,
    refused bigint not null,
    at bigint not null,
    emission bigint not null,
    tolerance bigint not null,
    asked bigint not null,
    granted bigint not null,
    primary key (rate_limit_id, generation, key)
) with (fillfactor = 50);
-- Who used most, first; and what is full again, to be swept away.
create index rate_bucket_by_use on rate_bucket (rate_limit_id, generation, tat, key);

-- What was used of quotas: as durable as anything else.
create table quota_count (
    rate_limit_id uuid not null,
    generation bigint not null,
    key text not null,
    period date not null,
    ends_at timestamptz not null,
    used bigint not null,
    refused bigint not null,
    quota bigint not null,
    asked bigint not null,
    granted bigint not null,
    primary key (rate_limit_id, generation, key)
) with (fillfactor = 50);
create index quota_count_by_use on quota_count (rate_limit_id, generation, used, key);
create index quota_count_by_end on quota_count (ends_at);

-- The generic cell rate algorithm: when the bucket was, or will be, full again; never further ahead than a whole
-- bucket, whatever became of the clock or of the settings.
create function rate_base(tat bigint, at bigint, tolerance bigint) returns bigint
    language sql immutable parallel safe
    return least(greatest(tat, at), at + tolerance);

-- How many of those asked for there are.
create function rate_granted(asked bigint, base bigint, at bigint, emission bigint, tolerance bigint) returns bigint
    language sql immutable parallel safe
    return least(asked, (at + tolerance - base) / emission);

-- What counts as used: nothing in a new period. A clock that was set back begins none.
create function quota_used(used bigint, period date, now_in date) returns bigint
    language sql immutable parallel safe
    return case when now_in > period then 0 else used end;
