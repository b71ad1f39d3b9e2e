-- Counts changes of price lists and promotions, by which processes know that what they remember is old.
create table rulebook (
    one boolean primary key check (one),
    revision bigint not null
);
insert into rulebook values (true, 1);

create table price_list (
    price_list_id uuid primary key,
    name text not null,
    currency text not null,
    segments text[] not null,
    countries text[] not null,
    valid_from timestamptz,
    valid_to timestamptz,
    priority integer not null,
    tax_included boolean not null,
    version integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index price_list_by_name on price_list (name, price_list_id);

-- What a sku costs in a list: from `min_units[n]` on `unit_prices[n]` each.
create table listed_price (
    price_list_id uuid not null references price_list on delete cascade,
    sku text not null,
    min_units bigint[] not null,
    unit_prices numeric[] not null,
    primary key (price_list_id, sku)
);

-- `settings` is a weft.pricing.v1.PromotionSettings. `uses` counts only where `uses_max` is set, and
-- `spent_minor` only where `budget_minor` is: orders would wait for each other for nothing.
create table promotion (
    promotion_id uuid primary key,
    name text not null,
    state text not null check (state in ('DRAFT', 'ACTIVE', 'PAUSED', 'ARCHIVED')),
    priority integer not null,
    coupon_needed boolean not null,
    currency text not null,
    valid_from timestamptz,
    valid_to timestamptz,
    settings bytea not null,
    uses_max bigint,
    uses_per_customer_max bigint,
    uses_per_coupon_max bigint,
    budget_minor bigint,
    uses bigint not null,
    spent_minor bigint not null,
    version integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index promotion_by_age on promotion (created_at, promotion_id);
create index promotion_active on promotion (promotion_id) where state = 'ACTIVE';

create table coupon (
    code text primary key,
    promotion_id uuid not null references promotion,
    batch_id uuid,
    uses_max bigint,
    uses bigint not null,
    valid_to timestamptz,
    revoked boolean not null,
    created_at timestamptz not null
);
create index coupon_by_promotion on coupon (promotion_id, code);

-- `request` is what the batch was made by, without ids.
create table coupon_batch (
    batch_id uuid primary key,
    promotion_id uuid not null references promotion,
    request bytea not null,
    coupons integer not null,
    created_at timestamptz not null
);

-- What each customer used of promotions that are limited so.
create table customer_use (
    promotion_id uuid not null references promotion,
    customer_id uuid not null,
    uses bigint not null,
    primary key (promotion_id, customer_id)
);

create table segment_member (
    customer_id uuid not null,
    segment text not null,
    valid_to timestamptz,
    primary key (customer_id, segment)
);
create index segment_member_by_segment on segment_member (segment, customer_id);

-- What the catalog says of a sku. Unknown until the catalog has answered; `revision` rises with each event
-- that makes an answer old, so that an answer from before it is not kept.
create table item (
    sku text primary key,
    product_id text not null,
    title text not null,
    tax_category text not null,
    category_ids text[] not null,
    for_sale boolean not null,
    shippable boolean not null,
    prices jsonb not null,
    known boolean not null,
    revision bigint not null
);
create index item_by_product on item (product_id);
create index item_by_category on item using gin (category_ids);
create index item_unknown on item (sku) where not known;

-- `body` is a weft.pricing.v1.Quote, `request` the SHA-256 of what it was asked for by.
create table quote (
    quote_id uuid primary key,
    request bytea not null,
    customer_id uuid,
    body bytea not null,
    expires_at timestamptz not null,
    created_at timestamptz not null
);
create index quote_old on quote (expires_at);

-- The uses that an order took. Without a quote: it was released before it came.
create table redemption (
    redemption_id uuid primary key,
    quote_id uuid,
    customer_id uuid,
    state text not null check (state in ('REDEEMED', 'RELEASED')),
    created_at timestamptz not null,
    released_at timestamptz
);
create index redemption_by_customer on redemption (customer_id) where customer_id is not null;

create table redemption_use (
    redemption_id uuid not null references redemption,
    number integer not null,
    promotion_id uuid not null references promotion,
    code text not null,
    amount_minor bigint not null,
    net_minor bigint not null,
    currency text not null,
    created_at timestamptz not null,
    primary key (redemption_id, number)
);
create index redemption_use_by_promotion on redemption_use (promotion_id, created_at);
