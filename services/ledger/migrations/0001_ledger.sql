-- Accounts with their sums, minor units. Changed only by whoever holds the head.
create table account (
    account_id uuid primary key,
    code text not null unique,
    currency text not null,
    kind text not null check (kind in ('ASSET', 'LIABILITY', 'EQUITY', 'INCOME', 'EXPENSE')),
    limit_kind text not null check (
        limit_kind in ('NONE', 'DEBITS_NOT_ABOVE_CREDITS', 'CREDITS_NOT_ABOVE_DEBITS')
    ),
    overdraft_minor bigint not null check (overdraft_minor >= 0),
    owner_id text not null,
    debits_posted bigint not null check (debits_posted >= 0),
    credits_posted bigint not null check (credits_posted >= 0),
    debits_pending bigint not null check (debits_pending >= 0),
    credits_pending bigint not null check (credits_pending >= 0),
    closed boolean not null,
    created_at timestamptz not null
) with (fillfactor = 70);  -- Sums change in place, on the page where they stand.
create index account_by_currency on account (currency, code);
create index account_by_owner on account (owner_id) where owner_id <> '';

-- The ledger: written once, in one order. Reserved amounts stand in `open_pending` until they are resolved.
create table entry (
    sequence bigint primary key,
    transfer_id uuid not null unique,
    kind smallint not null,
    debit_account_id uuid not null,
    credit_account_id uuid not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    pending_id uuid,
    code text not null,
    reference text not null,
    memo bytea,
    memo_owner_id text not null,
    effective_at timestamptz not null,
    recorded_at timestamptz not null,
    expire_at timestamptz,
    body bytea not null,
    debit_balance_after bigint not null,
    credit_balance_after bigint not null,
    hash bytea not null
);
create unique index entry_resolves_once on entry (pending_id) where pending_id is not null;
create index entry_by_debit on entry (debit_account_id, effective_at, sequence);
create index entry_by_credit on entry (credit_account_id, effective_at, sequence);
create index entry_by_reference on entry (reference, sequence) where reference <> '';
create index entry_by_debit_record on entry (debit_account_id, sequence);
create index entry_by_credit_record on entry (credit_account_id, sequence);
create index entry_by_record on entry (recorded_at, sequence);
-- A trial balance at some time reads one day of all accounts.
create index entry_by_effect on entry using brin (effective_at);

create table open_pending (
    transfer_id uuid primary key,
    expire_at timestamptz
);
create index open_pending_due on open_pending (expire_at) where expire_at is not null;

-- Sums by account and day of effective time (days since 1970, UTC): a balance at any time reads these, and
-- the entries of one day.
create table turnover (
    account_id uuid not null,
    day bigint not null,
    debits bigint not null,
    credits bigint not null,
    primary key (account_id, day)
) with (fillfactor = 70);

create table head (
    ledger text primary key,
    sequence bigint not null,
    hash bytea not null,
    recorded_at timestamptz not null
);
insert into head values ('ledger', 0, decode(repeat('00', 32), 'hex'), 'epoch');

create table memo_key (
    owner_id text primary key,
    sealed_key bytea not null,
    created_at timestamptz not null
);

-- A slip is refused here; whoever can lift this trigger can edit rows too, and is found out by the chain.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only';
end $$;
create trigger entry_append_only before update or delete or truncate on entry
    for each statement execute function refuse_change();
