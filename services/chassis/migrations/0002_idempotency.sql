-- Answers already given, by the caller's idempotency key.
create table idempotency (
    caller text not null,
    method text not null,
    key text not null,
    request bytea not null,
    response bytea,
    refusal bytea,
    at timestamptz not null default now(),
    primary key (caller, method, key)
);
create index idempotency_at on idempotency (at);
