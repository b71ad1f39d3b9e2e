-- A webhook that was taken in: never its content, which may hold anything.
create table notice (
    gateway text not null,
    notice_id text not null,
    kind text not null,
    ref text not null,
    received_at timestamptz not null,
    primary key (gateway, notice_id)
);
create index notice_by_age on notice (received_at);
