-- A customer's bank took money back, or wants to.
create table dispute (
    dispute_id uuid primary key,
    intent_id uuid not null references intent,
    gateway text not null,
    gateway_ref text not null,
    currency text not null,
    amount bigint not null check (amount >= 0),
    fee bigint not null check (fee >= 0),
    reason text not null,
    state text not null check (state in ('OPEN', 'WON', 'LOST')),
    respond_by timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (gateway, gateway_ref)
);
create index dispute_by_age on dispute (created_at, dispute_id);
create index dispute_of_intent on dispute (intent_id);
