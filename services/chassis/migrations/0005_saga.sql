-- Processes of several steps. `step` is the one that may have begun: it is written before the step begins.
-- Whoever holds a row runs it: until `held_until`, or until the advisory lock on its name, `holder`, is gone; `fence` grows with each claim and each record, so that who
-- lost it, or does not know that its record was made, can record nothing more.
create table saga (
    kind text not null,
    saga_id uuid not null,
    subject text not null,
    state text not null,
    step integer not null,
    attempts integer not null default 0,
    data text not null,
    actor text not null,
    trace text not null,
    reason text not null default '',
    failed_step text not null default '',
    message text not null default '',
    called_off text,
    wakes integer not null default 0,
    fence bigint not null,
    held_until timestamptz,
    holder text not null default '',
    due_at timestamptz,
    deadline_at timestamptz,
    created_at timestamptz not null,
    ended_at timestamptz,
    primary key (kind, saga_id)
) with (fillfactor = 70);
create index saga_due on saga (due_at) where due_at is not null;
create index saga_subject on saga (subject, created_at);
create index saga_unsettled on saga (state, created_at) where state in ('RUNNING', 'UNDOING', 'STUCK');
create index saga_ended on saga (ended_at) where ended_at is not null;
-- What became of each attempt at a step, as long as the process is kept.
create table saga_step (
    number bigint generated always as identity primary key,
    kind text not null,
    saga_id uuid not null,
    step text not null,
    outcome text not null,
    detail text not null,
    at timestamptz not null
);
create index saga_step_of on saga_step (kind, saga_id, number);
