-- What happened, for ever: outbox of the relay, source of the audit, store of event-sourced aggregates.
-- `transaction` stands before `position`, so that a writer has its transaction id before it takes a
-- position; the sequence has no cache, so positions are taken one by one.
create table event (
    transaction xid8 not null default pg_current_xact_id(),
    position bigint generated always as identity primary key,
    id uuid not null unique,
    type text not null,
    key text not null,
    subject text not null,
    actor text not null,
    acting text not null,
    trace text not null,
    causation uuid,
    stream text,
    version bigint,
    schema_version integer not null,
    payload bytea not null,
    at timestamptz not null,
    check ((stream is null) = (version is null))
);
-- One version of an aggregate is written once.
create unique index event_version on event (stream, key, version) where version is not null;
-- Folded state of an aggregate at a version; a cache, safe to delete.
create table snapshot (
    stream text not null,
    key text not null,
    version bigint not null,
    schema_version integer not null,
    payload bytea not null,
    primary key (stream, key)
);
-- Up to where events were published.
create table relay (
    service text primary key,
    position bigint not null
);
-- Events already handled, so that a second delivery does nothing.
create table inbox (
    consumer text not null,
    event_id uuid not null,
    at timestamptz not null default now(),
    primary key (consumer, event_id)
);
create index inbox_at on inbox (at);
