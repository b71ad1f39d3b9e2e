-- Who signs. `chain` is PEM: itself first, up to its root. An outside authority's key is in the settings.
create table authority (
    authority_id uuid primary key,
    kind text not null check (kind in ('ROOT', 'INTERMEDIATE', 'OUTSIDE')),
    serial text not null unique,
    root text not null,
    chain text not null,
    sealed_key bytea check ((sealed_key is null) = (kind = 'OUTSIDE')),
    ends_at timestamptz not null,
    made_at timestamptz not null
);

-- What was signed for instances. Forgotten some time after its end.
create table certificate (
    serial text primary key,
    spiffe_id text not null,
    service text not null,
    instance_id uuid not null,
    authority_id uuid not null references authority,
    authority_serial text not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    revoked_at timestamptz
);
create index certificate_by_end on certificate (ends_at, serial);
create index certificate_by_service on certificate (service, ends_at);
create index certificate_by_authority on certificate (authority_id, ends_at);
create index certificate_revoked on certificate (instance_id, service) where revoked_at is not null;
