-- The one row that puts all changes in order: its lock is taken first by whoever changes what clients see.
create table registry_state (
    only_one boolean primary key default true check (only_one),
    revision bigint not null,
    trimmed_to bigint not null
);
insert into registry_state (revision, trimmed_to) values (0, 0);

-- Instances whose lease has not ended. `settings` is a weft.registry.v1.InstanceSettings; the columns beside
-- it are what lists filter by and what clients are told. Times of leases are the database's.
create table instance (
    instance_id uuid primary key,
    service text not null,
    address text not null,
    port integer not null,
    version text not null,
    zone text not null,
    weight integer not null,
    owner text not null,
    labels text[] not null,
    protocols text[] not null,
    settings bytea not null,
    health text not null check (health in ('SERVING', 'NOT_SERVING', 'DRAINING')),
    revision bigint not null,
    lease interval not null,
    registered_at timestamptz not null,
    expires_at timestamptz not null
);
create index instance_by_service on instance (service, instance_id);
create index instance_by_age on instance (registered_at, instance_id);
create index instance_by_lease on instance (expires_at);

-- What watchers are told, the newest some thousand. `body` is a weft.registry.v1.Instance.
create table instance_change (
    revision bigint primary key,
    service text not null,
    gone boolean not null,
    body bytea not null
);

-- `settings` is a weft.registry.v1.TrafficPolicySettings.
create table traffic_policy (
    service text primary key,
    settings bytea not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

-- What clients refused and have not accepted since.
create table rejection (
    rejection_id text primary key,
    node_id text not null,
    type_url text not null,
    version text not null,
    message text not null,
    times bigint not null,
    first_at timestamptz not null,
    last_at timestamptz not null
);
create index rejection_by_age on rejection (last_at, rejection_id);
