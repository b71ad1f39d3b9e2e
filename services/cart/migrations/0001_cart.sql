-- A cart is one row: it is read and written whole. `lines` has {sku, units, saved, at} in the order in which
-- they were put in; `token_sha256` opens a guest's, and nobody's once it is a customer's.
create table cart (
    cart_id uuid primary key,
    customer_id uuid,
    token_sha256 bytea,
    currency text not null,
    country text not null,
    state text not null check (state in ('OPEN', 'CHECKING_OUT', 'CHECKED_OUT', 'MERGED', 'EXPIRED')),
    version bigint not null,
    lines jsonb not null,
    units bigint not null,
    coupon_codes text[] not null,
    order_id uuid,
    merged_into_id uuid,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    expires_at timestamptz not null,
    expires_on date not null
) with (fillfactor = 70);  -- Room on its page for the next version of a row that changes often.
-- No index has a column that every change touches, so that a change rewrites no index (a HOT update): the day
-- of the end stands for its moment.
create unique index cart_of_customer on cart (customer_id)
    where customer_id is not null and state in ('OPEN', 'CHECKING_OUT');
create index cart_by_customer on cart (customer_id) where customer_id is not null;
create index cart_by_age on cart (created_at, cart_id);
create index cart_by_end on cart (expires_on);
create index cart_checking_out on cart (cart_id) where state = 'CHECKING_OUT';
