-- The trail. The proto's Entry says how `hash` is made.
create table entry (
    sequence bigint primary key check (sequence > 0),
    event_id uuid not null unique,
    service text not null,
    type text not null,
    key text not null,
    subject_id text not null,
    actor text not null,
    acting text not null,
    trace text not null,
    causation text not null,
    event_time timestamptz not null,
    version bigint not null,
    schema_version integer not null,
    payload bytea not null,
    payload_hash bytea not null check (length(payload_hash) = 32),
    previous_hash bytea not null check (length(previous_hash) = 32),
    hash bytea not null check (length(hash) = 32)
);
create index entry_by_subject on entry (subject_id, sequence) where subject_id <> '';
create index entry_by_actor on entry (actor, sequence);
create index entry_by_type on entry (type, sequence);
create index entry_by_time on entry (event_time);

-- The end of the trail: one row, locked by whoever appends.
create table head (
    chain text primary key,
    sequence bigint not null check (sequence >= 0),
    hash bytea not null check (length(hash) = 32)
);
insert into head values ('main', 0, decode(repeat('00', 32), 'hex'));

-- Signatures over the head. A copy of each is kept outside this database.
create table anchor (
    sequence bigint primary key,
    hash bytea not null,
    sign_time timestamptz not null,
    key_id text not null,
    signature bytea not null
);

-- The service itself never changes what is written: a slip is refused. Who can lift this trigger can
-- also edit rows, which is what the chain and the anchors outside are for.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the trail is append-only';
end $$;
create trigger entry_append_only before update or delete or truncate on entry
    for each statement execute function refuse_change();
create trigger anchor_append_only before update or delete or truncate on anchor
    for each statement execute function refuse_change();
