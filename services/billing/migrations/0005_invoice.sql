-- The last number of each series. Whoever finalises holds the row until the end of its transaction, and a
-- rollback gives the numbers back: so there is no gap, and time rises with them.
create table invoice_series (
    series text primary key,
    last_number bigint not null,
    last_at timestamptz not null
);

create table invoice (
    invoice_id uuid primary key,
    customer_id uuid not null references billing_profile,
    kind text not null check (kind in ('SUBSCRIPTION', 'CHANGE', 'ONE_OFF')),
    state text not null check (state in ('DRAFT', 'OPEN', 'PAID', 'VOID', 'UNCOLLECTIBLE')),
    series text not null,
    number bigint,
    number_text text,
    currency text not null,
    country text not null,
    net bigint not null check (net >= 0),
    discount bigint not null check (discount >= 0),
    tax bigint not null check (tax >= 0),
    gross bigint not null,
    credit_applied bigint not null check (credit_applied >= 0),
    amount_paid bigint not null check (amount_paid >= 0),
    credited bigint not null check (credited between 0 and gross),
    credited_due bigint not null check (credited_due between 0 and credited),
    memo text not null,
    collection text not null,
    net_days integer not null,
    digest bytea,
    run_id uuid,
    created_at timestamptz not null,
    issued_at timestamptz,
    due_at timestamptz,
    paid_at timestamptz,
    ended_at timestamptz,
    check (gross = net + tax),
    check (credit_applied + credited_due + amount_paid <= gross),
    check ((state = 'DRAFT') = (number is null)),
    check ((number is null) = (issued_at is null) and (number is null) = (number_text is null)),
    check ((state = 'PAID') = (paid_at is not null))
);
create unique index invoice_number on invoice (series, number) where number is not null;
create unique index invoice_number_text on invoice (number_text) where number_text is not null;
create index invoice_by_customer on invoice (customer_id, created_at, invoice_id);
create index invoice_by_age on invoice (created_at, invoice_id);
create index invoice_by_issue on invoice (issued_at, invoice_id) where issued_at is not null;
create index invoice_of_run on invoice (run_id) where run_id is not null;

create table invoice_line (
    invoice_id uuid not null,
    position integer not null,
    line_id uuid,
    subscription_id uuid,
    charge text not null,
    sku text not null,
    description text not null,
    units numeric not null,
    unit_price numeric,
    amount bigint not null,
    discount bigint not null,
    net bigint not null,
    tax_category text not null,
    supply text not null check (supply in ('GOODS', 'SERVICES')),
    tax_code text not null,
    tax_rate numeric not null,
    service_start timestamptz,
    service_end timestamptz,
    primary key (invoice_id, position),
    check (net = amount - discount)
);
create index invoice_line_of_subscription on invoice_line (subscription_id) where subscription_id is not null;

create table invoice_tax (
    invoice_id uuid not null,
    tax_code text not null,
    tax_rate numeric not null,
    taxable bigint not null,
    tax bigint not null,
    note text not null,
    primary key (invoice_id, tax_code, tax_rate)
);

-- Whom it is addressed to: personal, and kept for as long as the law wants invoices kept.
create table invoice_party (
    invoice_id uuid primary key,
    name text not null,
    lines text[] not null,
    postal_code text not null,
    city text not null,
    region text not null,
    email text not null,
    locale text not null,
    vat_number text not null
);

-- Money that came for an invoice or went back, by the id that its payment has.
create table invoice_payment (
    payment_id uuid primary key,
    invoice_id uuid not null references invoice,
    amount bigint not null,
    applied bigint not null,
    gateway text not null,
    paid_at timestamptz not null
);
create index invoice_payment_of_invoice on invoice_payment (invoice_id, paid_at);

create table invoice_credit (
    invoice_id uuid not null,
    credit_id uuid not null references credit,
    amount bigint not null check (amount > 0),
    primary key (invoice_id, credit_id)
);

create table credit_note (
    credit_note_id uuid primary key,
    invoice_id uuid not null references invoice,
    customer_id uuid not null,
    number bigint not null unique,
    number_text text not null,
    currency text not null,
    reason text not null,
    net bigint not null check (net > 0),
    tax bigint not null check (tax >= 0),
    gross bigint not null,
    to_credit bigint not null check (to_credit between 0 and gross),
    digest bytea not null,
    issued_at timestamptz not null,
    check (gross = net + tax)
);
create index credit_note_of_invoice on credit_note (invoice_id, number);
create index credit_note_by_age on credit_note (issued_at, credit_note_id);

create table credit_note_line (
    credit_note_id uuid not null references credit_note,
    position integer not null,
    net bigint not null check (net > 0),
    tax_code text not null,
    tax_rate numeric not null,
    primary key (credit_note_id, position)
);

create table credit_note_tax (
    credit_note_id uuid not null references credit_note,
    tax_code text not null,
    tax_rate numeric not null,
    taxable bigint not null,
    tax bigint not null,
    note text not null,
    primary key (credit_note_id, tax_code, tax_rate)
);

-- What was finalised never changes, whoever asks. States and what was paid may.
create function invoice_is_final() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'invoice % is final', old.invoice_id using errcode = 'restrict_violation';
    end if;
    if (old.invoice_id, old.customer_id, old.kind, old.series, old.number, old.number_text, old.currency,
        old.country, old.net, old.discount, old.tax, old.gross, old.credit_applied, old.memo, old.issued_at,
        old.due_at, old.created_at)
        is distinct from
       (new.invoice_id, new.customer_id, new.kind, new.series, new.number, new.number_text, new.currency,
        new.country, new.net, new.discount, new.tax, new.gross, new.credit_applied, new.memo, new.issued_at,
        new.due_at, new.created_at)
        or new.state = 'DRAFT' or old.state in ('PAID', 'VOID') and new.state <> old.state
        or old.state = 'UNCOLLECTIBLE' and new.state = 'OPEN'
        or new.credited < old.credited
    then
        raise exception 'invoice % is final', old.invoice_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger invoice_is_final before update or delete on invoice
    for each row when (old.state <> 'DRAFT') execute function invoice_is_final();

-- Lines and taxes are written before their invoice is, or while it is a draft.
create function invoice_part_is_final() returns trigger language plpgsql as $$
begin
    if exists (select from parts join invoice using (invoice_id) where state <> 'DRAFT') then
        raise exception 'parts of an invoice that is final' using errcode = 'restrict_violation';
    end if;
    return null;
end $$;
create trigger invoice_line_inserted after insert on invoice_line
    referencing new table as parts for each statement execute function invoice_part_is_final();
create trigger invoice_line_updated after update on invoice_line
    referencing old table as parts for each statement execute function invoice_part_is_final();
create trigger invoice_line_deleted after delete on invoice_line
    referencing old table as parts for each statement execute function invoice_part_is_final();
create trigger invoice_tax_inserted after insert on invoice_tax
    referencing new table as parts for each statement execute function invoice_part_is_final();
create trigger invoice_tax_updated after update on invoice_tax
    referencing old table as parts for each statement execute function invoice_part_is_final();
create trigger invoice_tax_deleted after delete on invoice_tax
    referencing old table as parts for each statement execute function invoice_part_is_final();
