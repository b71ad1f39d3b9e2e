create table provider (
    provider_id uuid primary key,
    name text not null,
    issuer text not null,
    client_id text not null,
    sealed_secret bytea,
    scopes text[] not null,
    link_by_email boolean not null,
    sign_up boolean not null,
    disabled boolean not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (issuer, client_id)
);

create table provider_link (
    provider_id uuid not null references provider on delete cascade,
    subject text not null,
    user_id uuid not null references person,
    created_at timestamptz not null,
    primary key (provider_id, subject),
    unique (user_id, provider_id)
);
