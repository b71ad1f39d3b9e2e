create table person (
    user_id uuid primary key,
    email text,
    email_key text unique,
    display_name text not null,
    locale text not null,
    zone text not null,
    preferences jsonb not null,
    state text not null check (state in ('active', 'disabled', 'erased')),
    revision bigint not null,
    activity_sequence bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    check ((state = 'erased') = (email is null)),
    check ((email is null) = (email_key is null))
);
create index person_created on person (created_at, user_id);

create table role (
    role text primary key,
    description text not null,
    permissions text[] not null,
    built_in boolean not null,
    updated_at timestamptz not null
);
create table role_grant (
    user_id uuid not null references person,
    role text not null references role,
    granted_at timestamptz not null,
    primary key (user_id, role)
);
create index role_grant_role on role_grant (role);

insert into role values
    ('admin', 'Everything.', '{*}', true, now()),
    ('user', 'Everyone: what is their own.', '{}', true, now()),
    ('support', 'Helps people with their accounts.',
     '{identity.users.read,identity.users.impersonate,identity.sessions.read,identity.sessions.revoke,'
     'identity.activity.read,notification.messages.read}', true, now()),
    ('auditor', 'Reads everything that happened, changes nothing.',
     '{identity.users.read,identity.roles.read,identity.sessions.read,identity.activity.read,'
     'audit.entries.read}', true, now());

create table activity (
    user_id uuid not null,
    sequence bigint not null,
    at timestamptz not null,
    kind text not null,
    session_id text not null,
    actor text not null,
    acting text not null,
    address text not null,
    about text not null,
    primary key (user_id, sequence)
);
create index activity_at on activity (at);
