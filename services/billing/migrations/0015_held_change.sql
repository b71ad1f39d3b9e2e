-- When a change was made whose invoice waits for the buyer's VAT number; its lines are `pending`.
alter table subscription add column held_at timestamptz;
create index subscription_held on subscription (held_at, customer_id) where held_at is not null;
