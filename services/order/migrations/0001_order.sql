-- Orders as lists show them: a projection of their events.
create table order_summary (
    order_id uuid primary key,
    customer_id uuid,
    reference text not null,
    currency text not null,
    country text not null,
    state text not null,
    lines integer not null,
    gross_minor bigint not null,
    refunded_minor bigint not null,
    imported boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index order_summary_created on order_summary (created_at, order_id);
create index order_summary_customer on order_summary (customer_id, created_at, order_id);
create index order_summary_gross on order_summary (gross_minor, order_id);
create index order_summary_reference on order_summary (reference) where reference <> '';
-- Of the states that orders pass through, and so few are in; those that they end in have most of them.
create index order_summary_open on order_summary (state, created_at, order_id)
    where state in ('PENDING', 'AWAITING_PAYMENT', 'CONFIRMED', 'PARTIALLY_SHIPPED', 'SHIPPED', 'CANCELLING');
-- What of an order is no event: what it was asked for by, what its goods were called, and whom it is for,
-- which can be erased.
create table order_detail (
    order_id uuid primary key,
    request_mac bytea not null,
    customer_id uuid,
    created_at timestamptz not null,
    titles jsonb not null,
    contact bytea,
    payment bytea,
    next_action_url text not null default '',
    words tsvector not null
);
create index order_detail_created on order_detail (created_at, order_id);
create index order_detail_customer on order_detail (customer_id) where contact is not null;
create index order_detail_words on order_detail using gin (words);
-- 10,000 words have their frequency known, so that a search knows whether to begin with the word or the time.
alter table order_detail alter column words set statistics 1000;
-- Ids of refunds and credits that were imported, so that a second import of them is known.
create table imported_refund (
    refund_id uuid primary key,
    request_mac bytea not null
);
