-- Of an address or endpoint: when it was changed, and the secret before this one, while that counts, too.
alter table hook
    add column revision integer not null default 1,
    add column updated_at timestamptz,
    add column previous_secret bytea,
    add column previous_until timestamptz;
alter table webhook_endpoint
    add column disabled boolean not null default false,
    add column revision integer not null default 1,
    add column updated_at timestamptz,
    add column previous_secret bytea,
    add column previous_until timestamptz;
