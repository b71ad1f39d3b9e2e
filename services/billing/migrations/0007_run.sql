-- A run invoices everything that is due by `as_of`. What it has done is counted in the transactions that do
-- it, so a run that was killed goes on where it was.
create table billing_run (
    run_id uuid primary key,
    as_of timestamptz not null,
    state text not null check (state in ('RUNNING', 'FINISHED')),
    invoices bigint not null,
    subscriptions bigint not null,
    failures bigint not null,
    started_at timestamptz not null,
    finished_at timestamptz
);
create index billing_run_by_age on billing_run (started_at, run_id);
create index billing_run_unfinished on billing_run (started_at) where state = 'RUNNING';
