create table password (
    user_id uuid primary key references person,
    hash text not null,
    short boolean not null,
    changed_at timestamptz not null
);

create table attempts (
    key bytea primary key,
    count bigint not null,
    since timestamptz not null,
    last_at timestamptz not null,
    locked_until timestamptz
);
create index attempts_last on attempts (last_at);

create table one_use_code (
    code_id uuid primary key,
    purpose text not null,
    subject text not null,
    hash bytea not null,
    data jsonb not null,
    tries bigint not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz
);
create index one_use_code_subject on one_use_code (subject, purpose);
create index one_use_code_expires on one_use_code (expires_at);

create table registration (
    registration_id uuid primary key,
    email text not null,
    email_key text not null,
    display_name text not null,
    locale text not null,
    zone text not null,
    password_hash text not null,
    expires_at timestamptz not null
);
create index registration_email on registration (email_key);
create index registration_expires on registration (expires_at);

create table totp (
    user_id uuid primary key references person,
    sealed bytea not null,
    last_step bigint not null,
    created_at timestamptz not null,
    confirmed_at timestamptz,
    last_used_at timestamptz
);

create table recovery_code (
    hash bytea primary key,
    user_id uuid not null references person,
    used_at timestamptz
);
create index recovery_code_user on recovery_code (user_id);
