-- Which payment a row is of: what a lost dispute undoes is looked for by it. Rows from before have none.
alter table invoice_payment
    add column intent_id uuid,
    add column disputed boolean not null default false;

-- Disputes of payments of invoices that were lost. `taken` is what of it has been undone here; the rest waits
-- for captures that were not heard of yet.
create table lost_dispute (
    dispute_id uuid primary key,
    intent_id uuid not null,
    invoice_id uuid not null references invoice,
    currency text not null,
    amount bigint not null check (amount > 0),
    taken bigint not null check (taken between 0 and amount),
    gateway text not null,
    at timestamptz not null
);
create index lost_dispute_of_intent on lost_dispute (intent_id);

-- A chase that began anew: how often, and since when.
alter table dunning
    add column restarts integer not null default 0,
    add column restarted_at timestamptz;

-- As before; and a paid invoice may be open again when money that had paid it is gone.
create or replace function invoice_is_final() returns trigger language plpgsql as $$
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
        or new.state = 'DRAFT' or old.state = 'VOID' and new.state <> old.state
        or old.state = 'PAID' and new.state <> old.state
            and not (new.state = 'OPEN' and new.amount_paid < old.amount_paid)
        or old.state = 'UNCOLLECTIBLE' and new.state = 'OPEN'
        or new.credited < old.credited
    then
        raise exception 'invoice % is final', old.invoice_id using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
