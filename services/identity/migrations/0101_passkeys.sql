create table passkey (
    passkey_id uuid primary key,
    user_id uuid not null references person,
    credential_id bytea not null unique,
    public_key bytea not null,
    sign_count bigint not null,
    transports text[] not null,
    name text not null,
    backed_up boolean not null,
    aaguid text not null,
    created_at timestamptz not null,
    last_used_at timestamptz
);
create index passkey_user on passkey (user_id);
