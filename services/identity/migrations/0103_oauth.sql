create table oauth_client (
    client_id text primary key,
    name text not null,
    confidential boolean not null,
    redirect_uris text[] not null,
    grant_types text[] not null,
    scopes text[] not null,
    trusted boolean not null,
    service_account_id uuid references service_account on delete set null,
    disabled boolean not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index oauth_client_service_account on oauth_client (service_account_id);

create table oauth_client_secret (
    hash bytea primary key,
    client_id text not null references oauth_client on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz
);
create index oauth_client_secret_client on oauth_client_secret (client_id);

create table oauth_consent (
    user_id uuid not null references person,
    client_id text not null references oauth_client on delete cascade,
    scopes text[] not null,
    granted_at timestamptz not null,
    primary key (user_id, client_id)
);
create index oauth_consent_client on oauth_consent (client_id);

create table device_authorization (
    hash bytea primary key,
    user_code_hash bytea not null unique,
    client_id text not null references oauth_client on delete cascade,
    scopes text[] not null,
    state text not null check (state in ('waiting', 'granted', 'denied', 'used')),
    user_id uuid references person,
    amr text[] not null,
    auth_time timestamptz,
    interval_s bigint not null,
    polled_at timestamptz,
    expires_at timestamptz not null
);
create index device_authorization_expires on device_authorization (expires_at);
create index session_client on session (client_id) where client_id <> '';
