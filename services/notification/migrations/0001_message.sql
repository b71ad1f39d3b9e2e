-- A message to one person: written with its MessageAccepted event, moved forward by the sender.
create table message (
    message_id uuid primary key,
    body_mac bytea not null,
    template text not null,
    channel text not null,
    category text not null,
    user_id text not null,
    address text not null,
    locale text not null,
    time_zone text not null,
    sealed_values bytea,
    state text not null check (
        state in ('QUEUED', 'SENDING', 'SENT', 'DELIVERED', 'FAILED', 'SUPPRESSED', 'CANCELLED')
    ),
    attempts integer not null check (attempts >= 0),
    create_time timestamptz not null,
    update_time timestamptz not null,
    resting boolean not null,
    due_at timestamptz,
    wake_at timestamptz,
    sent_at timestamptz,
    erase_at timestamptz
);
create index message_by_age on message (create_time, message_id);
create index message_by_user on message (user_id, create_time, message_id);
create index message_to_wake on message (wake_at) where wake_at is not null;
create index message_to_erase on message (erase_at) where erase_at is not null;

-- One try to hand a message over; written before it starts.
create table attempt (
    message_id uuid not null references message,
    number integer not null check (number > 0),
    started_at timestamptz not null,
    ended_at timestamptz,
    code integer not null,
    status text not null,
    reply text not null,
    primary key (message_id, number)
);

-- An address that mail bounced from for good. `address_key` is the address, case folded.
create table suppression (
    suppression_id uuid primary key,
    address_key text not null unique,
    address text not null,
    user_id text not null,
    message_id uuid not null,
    status text not null,
    create_time timestamptz not null
);
create index suppression_by_age on suppression (create_time, suppression_id);

-- A reader who wants no messages but those about security.
create table opt_out (
    opt_out_id uuid primary key,
    address_key text not null unique,
    user_id text not null,
    create_time timestamptz not null
);
