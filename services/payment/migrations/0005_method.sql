-- By what a customer pays. Tokens and accounts are sealed, and erased when it is detached.
create table method (
    method_id uuid primary key,
    customer_id uuid not null,
    body_mac bytea not null,
    kind text not null check (kind in ('CARD', 'BANK_TRANSFER', 'INVOICE')),
    preferred boolean not null,
    gateway text not null,
    sealed_source bytea,
    sealed_account bytea,
    account_mac bytea,
    brand text not null,
    last4 text not null,
    expiry text not null,
    country text not null,
    currency text not null,
    credit_limit bigint not null check (credit_limit >= 0),
    created_at timestamptz not null,
    detached_at timestamptz
);
create index method_of_customer on method (customer_id, created_at, method_id);
create unique index method_preferred on method (customer_id) where preferred;
create index method_by_account on method (account_mac) where account_mac is not null;
