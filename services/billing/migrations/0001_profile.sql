-- How a customer is billed. Nothing here is personal.
create table billing_profile (
    customer_id uuid primary key,
    country text not null,
    time_zone text not null,
    method_id uuid,
    collection text not null check (collection in ('AUTOMATIC', 'SENT')),
    net_days integer not null check (net_days between 0 and 365),
    series text not null,
    dunning_policy_id uuid,
    tax_exempt boolean not null,
    standing text not null check (standing in ('GOOD', 'OVERDUE', 'BLOCKED', 'SUSPENDED')),
    revision integer not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

-- Whom its invoices are addressed to: personal, and erased with the person.
create table billing_party (
    customer_id uuid primary key references billing_profile on delete cascade,
    name text not null,
    lines text[] not null,
    postal_code text not null,
    city text not null,
    region text not null,
    email text not null,
    locale text not null,
    vat_number text not null
);
