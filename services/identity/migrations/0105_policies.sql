create table policy (
    policy_id uuid primary key,
    name text not null,
    effect text not null check (effect in ('allow', 'deny')),
    permission text not null,
    condition text not null,
    disabled boolean not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
