create table service_account (
    service_account_id uuid primary key,
    name text not null,
    description text not null,
    roles text[] not null,
    disabled boolean not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

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
