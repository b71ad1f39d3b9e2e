create table dunning_policy (
    policy_id uuid primary key,
    title text not null,
    settings jsonb not null,
    created_at timestamptz not null
);

-- The chase after an invoice. It finishes once.
create table dunning (
    invoice_id uuid primary key references invoice,
    customer_id uuid not null,
    policy_id uuid references dunning_policy,
    step integer not null,
    next_at timestamptz,
    standing text not null check (standing in ('GOOD', 'OVERDUE', 'BLOCKED', 'SUSPENDED')),
    attempts integer not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    outcome text check (outcome in ('PAID', 'VOIDED', 'WRITTEN_OFF', 'GIVEN_UP')),
    check ((finished_at is null) = (outcome is null))
);
create index dunning_due on dunning (next_at) where next_at is not null;
create index dunning_of_customer on dunning (customer_id) where standing <> 'GOOD';

-- What is to be done outside: charge a method, send a reminder. The id is derived from invoice, kind and
-- number, so that doing it again after a crash is doing it once.
create table dunning_action (
    action_id uuid primary key,
    invoice_id uuid not null references dunning,
    kind text not null check (kind in ('ATTEMPT', 'REMIND')),
    number integer not null,
    amount bigint not null,
    state text not null check (state in ('PENDING', 'CALLED', 'DONE', 'FAILED', 'SKIPPED')),
    tries integer not null,
    next_at timestamptz,
    detail text not null,
    created_at timestamptz not null,
    ended_at timestamptz,
    unique (invoice_id, kind, number)
);
create index dunning_action_due on dunning_action (next_at) where next_at is not null;

-- Payments of invoices that were given up. Money that a gateway takes for one all the same is given back by
-- payment itself, and pays nothing here.
create table cancelled_payment (
    intent_id uuid primary key,
    at timestamptz not null
);
