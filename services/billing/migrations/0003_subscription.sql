-- Who pays for what. The row says all that the next bill needs: `billed` is what was charged in advance for
-- the period that runs, `pending` are lines that wait for the next invoice.
create table subscription (
    subscription_id uuid primary key,
    customer_id uuid not null references billing_profile,
    plan_id uuid not null,
    plan_version integer not null,
    quantity bigint not null check (quantity >= 0),
    state text not null check (state in ('SCHEDULED', 'TRIALING', 'ACTIVE', 'PAUSED', 'CANCELLED')),
    currency text not null,
    time_zone text not null,
    billing_day integer check (billing_day between 1 and 31),
    trial_days integer,
    start_at timestamptz not null,
    trial_end timestamptz,
    -- What the customer's clock showed as the first period began, and the day of the month that was meant.
    anchor timestamp,
    anchor_day integer,
    period_start timestamptz,
    period_end timestamptz,
    terms_start timestamptz,
    usage_start timestamptz,
    next_bill_at timestamptz,
    cancel_at timestamptz,
    paused_at timestamptz,
    ended_at timestamptz,
    next_plan_id uuid,
    next_plan_version integer,
    next_quantity bigint,
    billed jsonb not null,
    pending jsonb not null,
    last_invoice_id uuid,
    -- Why it could not be billed, and when that is tried again.
    problem text not null,
    retry_at timestamptz,
    digest bytea not null,
    revision integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    foreign key (plan_id, plan_version) references plan_version,
    check ((state = 'CANCELLED') = (ended_at is not null))
);
create index subscription_due on subscription (next_bill_at, customer_id) where next_bill_at is not null;
create index subscription_by_customer on subscription (customer_id, created_at, subscription_id);
create index subscription_by_age on subscription (created_at, subscription_id);
create index subscription_by_plan on subscription (plan_id);

-- What meters saw; written once. `counts_at` decides on which invoice it is: the time of the event, or the
-- beginning of what is not yet billed, if it came late.
create table usage_event (
    subscription_id uuid not null references subscription,
    event_id text not null,
    meter text not null,
    value numeric not null,
    unique_key text not null,
    at timestamptz not null,
    counts_at timestamptz not null,
    recorded_at timestamptz not null,
    primary key (subscription_id, event_id)
);
create index usage_event_counted on usage_event (subscription_id, meter, counts_at);
