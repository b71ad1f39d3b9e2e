-- What happened to an invoice, as its events told. They may come in any order: its figures are made of all that
-- have come, each time one does.
create table revenue_fact (
    kind text not null check (kind in ('INVOICE', 'CREDIT_NOTE', 'VOID')),
    source_id uuid not null,
    invoice_id uuid not null,
    at timestamptz not null,
    currency text not null,
    net bigint not null,
    deferred bigint not null,
    primary key (kind, source_id)
);
create index revenue_fact_of_invoice on revenue_fact (invoice_id);

-- Net revenue of one document, by the month in which it is earned. What takes back is negative.
create table revenue_entry (
    kind text not null check (kind in ('INVOICE', 'CREDIT_NOTE', 'VOID', 'ORDER', 'REFUND')),
    source_id uuid not null,
    month date not null,
    billed_month date not null,
    currency text not null,
    amount bigint not null,
    primary key (kind, source_id, month)
);
create index revenue_entry_by_month on revenue_entry (currency, month) include (billed_month, kind, amount);

-- Tax of one document, by the day on which it counts.
create table tax_entry (
    kind text not null check (kind in ('INVOICE', 'CREDIT_NOTE', 'VOID', 'ORDER', 'REFUND')),
    source_id uuid not null,
    code text not null,
    rate numeric not null,
    day date not null,
    country text not null,
    currency text not null,
    taxable bigint not null,
    tax bigint not null,
    primary key (kind, source_id, code, rate)
);
create index tax_entry_by_day on tax_entry (day, country);

-- How a subscription's worth in a month changed, and when. The customer is an id and no more.
create table recurring_change (
    event_id uuid primary key,
    subscription_id uuid not null,
    customer_id uuid not null,
    currency text not null,
    at timestamptz not null,
    delta bigint not null check (delta <> 0)
);
create index recurring_change_by_customer on recurring_change (currency, customer_id, at) include (delta);

-- What is owed, by when it was due.
create index invoice_owed on invoice (currency, due_at) where state = 'OPEN';
