-- A customer's balance in one currency; what it says is the sum of its entries.
create table wallet (
    customer_id uuid not null,
    currency text not null,
    balance bigint not null,
    held bigint not null check (held >= 0),
    updated_at timestamptz not null,
    primary key (customer_id, currency),
    constraint wallet_never_negative check (balance >= held)
);
create table wallet_entry (
    entry_id uuid primary key,
    customer_id uuid not null,
    currency text not null,
    amount bigint not null check (amount <> 0),
    balance bigint not null check (balance >= 0),
    reason text not null,
    reference text not null,
    created_at timestamptz not null
);
create index wallet_entry_of_customer on wallet_entry (customer_id, created_at, entry_id);
