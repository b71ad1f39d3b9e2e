-- A name for a row of versions.
create table plan (
    plan_id uuid primary key,
    code text not null unique,
    title text not null,
    currency text not null,
    version integer not null,
    archived_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index plan_by_age on plan (created_at, plan_id);

-- What a version says (services/billing/domain/plan.py, Terms). It never changes: subscriptions stay with
-- the version that they were made with.
create table plan_version (
    plan_id uuid not null references plan,
    version integer not null,
    terms jsonb not null,
    created_at timestamptz not null,
    primary key (plan_id, version)
);
