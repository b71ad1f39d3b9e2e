-- The one row from which a controller goes on. `term` rises with each process that takes the lease, so that
-- one which was paused finds out that another has decided since.
create table controller (
    only_one boolean primary key default true check (only_one),
    term bigint not null,
    revision bigint not null,
    state jsonb not null
);
insert into controller (term, revision, state) values (0, 0, '{}');

create table pin (
    capability text primary key,
    mode text not null check (mode in ('NORMAL', 'DEGRADED', 'EMERGENCY')),
    until timestamptz not null,
    reason text not null,
    created_at timestamptz not null
);

create table incident (
    incident_id uuid primary key,
    capability text not null,
    worst text not null check (worst in ('DEGRADED', 'EMERGENCY')),
    causes text[] not null,
    opened_at timestamptz not null,
    closed_at timestamptz,
    impact jsonb not null
);
create index incident_by_age on incident (opened_at, incident_id);

create table failed_captures (
    incident_id uuid not null references incident,
    currency text not null,
    amount_minor bigint not null,
    primary key (incident_id, currency)
);

-- What people were last told of each capability.
create table alert (
    capability text primary key,
    mode text not null,
    at timestamptz not null
);
