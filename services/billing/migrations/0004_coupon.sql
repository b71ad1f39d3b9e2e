create table coupon (
    coupon_id uuid primary key,
    code text not null unique,
    title text not null,
    percent numeric check (percent > 0 and percent <= 100),
    amount bigint check (amount > 0),
    currency text not null,
    lasts text not null check (lasts in ('ONCE', 'REPEATING', 'FOREVER')),
    periods integer not null,
    redeem_by timestamptz,
    redemptions_max integer,
    per_customer_max integer,
    plan_ids uuid[] not null,
    redemptions integer not null,
    archived_at timestamptz,
    created_at timestamptz not null,
    check ((percent is null) <> (amount is null)),
    -- The limit holds whatever the code does.
    check (redemptions_max is null or redemptions <= redemptions_max)
);
create index coupon_by_age on coupon (created_at, coupon_id);

-- A coupon that a customer has.
create table coupon_redemption (
    redemption_id uuid primary key,
    coupon_id uuid not null references coupon,
    customer_id uuid not null references billing_profile,
    subscription_id uuid,
    "left" integer check ("left" >= 0),
    redeemed_at timestamptz not null,
    ended_at timestamptz
);
create index coupon_redemption_live on coupon_redemption (customer_id, redeemed_at) where ended_at is null;
create index coupon_redemption_of_customer on coupon_redemption (customer_id, coupon_id);

-- What customers have with us. `remaining` is spent under the row's lock and cannot fall below zero.
create table credit (
    credit_id uuid primary key,
    customer_id uuid not null references billing_profile,
    currency text not null,
    amount bigint not null check (amount > 0),
    remaining bigint not null check (remaining between 0 and amount),
    source text not null check (source in ('GRANT', 'CREDIT_NOTE', 'OVERPAYMENT', 'VOID')),
    reason text not null,
    expires_at timestamptz,
    created_at timestamptz not null
);
create index credit_live on credit (customer_id, currency) where remaining > 0;
create index credit_by_customer on credit (customer_id, created_at, credit_id);
