-- The developer's mailbox: what the local SMTP server took. Empty in production.
create table mail (
    sequence bigint generated always as identity primary key,
    mail_id uuid not null unique,
    received_at timestamptz not null,
    sender text not null,
    recipients text[] not null,
    source bytea not null
);
