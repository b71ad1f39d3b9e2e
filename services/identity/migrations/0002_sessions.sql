create table signing_key (
    kid text primary key,
    public jsonb not null,
    sealed bytea not null,
    created_at timestamptz not null,
    signs_from timestamptz not null,
    dropped_at timestamptz
);

create table session (
    session_id uuid primary key,
    subject text not null,
    kind text not null check (kind in ('user', 'client', 'api_key')),
    scope text[],
    amr text[] not null,
    client_id text not null,
    acting text not null,
    reason text not null,
    device_name text not null,
    user_agent text not null,
    address text not null,
    device_hash bytea not null,
    created_at timestamptz not null,
    last_used_at timestamptz not null,
    auth_time timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz,
    cause text not null
);
create index session_subject on session (subject, session_id);
create index session_expires on session (expires_at);

create table refresh_token (
    hash bytea primary key,
    session_id uuid not null references session on delete cascade,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz
);
create index refresh_token_session on refresh_token (session_id);
create index refresh_token_expires on refresh_token (expires_at);
