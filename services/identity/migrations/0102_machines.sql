create table service_account (
    service_account_id uuid primary key,
    name text not null,
    description text not null,
    disabled boolean not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table service_account_role (
    service_account_id uuid not null references service_account on delete cascade,
    role text not null references role on delete cascade,
    primary key (service_account_id, role)
);
create index service_account_role_role on service_account_role (role);

create table api_key (
    api_key_id text primary key,
    owner_id uuid not null,
    owner_kind text not null check (owner_kind in ('user', 'service_account')),
    name text not null,
    scopes text[],
    created_at timestamptz not null,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create index api_key_owner on api_key (owner_id, created_at);

create table api_key_secret (
    hash bytea primary key,
    api_key_id text not null references api_key on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz
);
create index api_key_secret_key on api_key_secret (api_key_id);
