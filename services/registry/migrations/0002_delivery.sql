-- Faults that last. `settings` is a weft.registry.v1.FaultSettings; times are the database's.
create table fault (
    fault_id uuid primary key,
    service text not null,
    settings bytea not null,
    revision bigint not null,
    began_at timestamptz not null,
    ends_at timestamptz not null
);
create index fault_by_service on fault (service, began_at, fault_id);
create index fault_by_end on fault (ends_at);

-- New versions on their way, and those that were. `settings` is a weft.registry.v1.RolloutSettings;
-- `figures` what was counted (services/registry/domain/figures.py), as JSON.
create table rollout (
    rollout_id uuid primary key,
    service text not null,
    settings bytea not null,
    state text not null check (state in ('RUNNING', 'PAUSED', 'PROMOTED', 'ROLLED_BACK', 'ABORTED')),
    reason text not null,
    step integer not null,
    watched_ms bigint not null,
    looks integer not null,
    figures text not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
-- One at a time.
create unique index rollout_in_progress on rollout (service) where state in ('RUNNING', 'PAUSED');
create index rollout_by_age on rollout (created_at, rollout_id);
