-- What countries charge, each rate from a day on.
create table tax_rate (
    tax_rate_id uuid primary key,
    country text not null,
    region text not null,
    kind text not null check (kind in ('STANDARD', 'REDUCED', 'SECOND_REDUCED', 'SUPER_REDUCED', 'PARKING')),
    percent numeric not null check (percent between 0 and 100),
    valid_from date not null,
    valid_to date check (valid_to > valid_from),
    revision integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (country, region, kind, valid_from)
);

-- What is known of VAT numbers. Number, name and address are personal, and erased with the person; what was
-- found out, when, and under which number of VIES stays as evidence.
create table vat_check (
    check_id uuid primary key,
    customer_id uuid,
    vat_number text not null,
    request_digest bytea not null,
    country text not null,
    state text not null check (state in ('VALID', 'INVALID', 'UNCONFIRMED')),
    reason text not null,
    consultation_number text not null,
    trader_name text not null,
    trader_address text not null,
    attempts integer not null,
    created_at timestamptz not null,
    answered_at timestamptz,
    retry_at timestamptz
);
create index vat_check_by_number on vat_check (vat_number, answered_at desc nulls last);
create index vat_check_by_customer on vat_check (customer_id, created_at desc);
create index vat_check_due on vat_check (retry_at) where retry_at is not null;
