-- A statement of our own bank account.
create table statement (
    statement_id uuid primary key,
    bank_id text not null,
    account text not null,
    format text not null,
    digest bytea not null,
    entries bigint not null,
    made_at timestamptz not null,
    imported_at timestamptz not null
);
create index statement_by_age on statement (imported_at, statement_id);

-- A movement on it. Who it came from and what they wrote is sealed, and erased with them.
create table bank_entry (
    entry_id uuid primary key,
    statement_id uuid not null references statement,
    account text not null,
    service_ref text not null,
    currency text not null,
    amount bigint not null,
    reversal boolean not null,
    value_at timestamptz not null,
    state text not null check (state in ('NEW', 'UNMATCHED', 'MATCHED', 'DISMISSED')),
    problem text not null,
    intent_id uuid,
    customer_id uuid,
    sealed_text bytea
);
create index bank_entry_by_time on bank_entry (value_at, entry_id);
create index bank_entry_new on bank_entry (entry_id) where state = 'NEW';
create index bank_entry_of_statement on bank_entry (statement_id);
create index bank_entry_of_customer on bank_entry (customer_id) where customer_id is not null;
create index bank_entry_of_intent on bank_entry (intent_id) where intent_id is not null;
create index bank_entry_by_service_ref on bank_entry (account, service_ref) where service_ref <> '';
