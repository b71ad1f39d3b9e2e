-- Places that hold stock. Stock of one that is not for sale is in nobody's reach.
create table location (
    location_id uuid primary key,
    name text not null,
    priority bigint not null,
    country text not null,
    for_sale boolean not null,
    revision bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

-- Levels. `reserved` is the sum of reservation_line.held, `incoming` that of transfers on their way.
-- Half of a page stays free, so that a hot row is updated within its page, without touching the index.
create table stock (
    sku text collate "C" not null,
    location_id uuid not null references location,
    on_hand bigint not null default 0,
    reserved bigint not null default 0 check (reserved >= 0),
    incoming bigint not null default 0 check (incoming >= 0),
    threshold bigint not null default 0,
    alert_at bigint,
    revision bigint not null default 0,
    updated_at timestamptz not null,
    primary key (sku, location_id)
) with (fillfactor = 50);
create index stock_by_location on stock (location_id, sku);

-- `digest` is of the lines that were asked for; empty where the id was released before it was reserved.
create table reservation (
    reservation_id uuid primary key,
    state text not null check (state in ('HELD', 'COMMITTED', 'RELEASED', 'EXPIRED')),
    digest bytea not null,
    expire_at timestamptz not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index reservation_due on reservation (expire_at) where state = 'HELD';
create index reservation_by_age on reservation (created_at, reservation_id);
create index reservation_ended on reservation (updated_at) where state <> 'HELD';

-- Written by the statement that writes its reservation, and deleted by that which deletes it.
create table reservation_line (
    reservation_id uuid not null,
    sku text collate "C" not null,
    location_id uuid not null,
    held bigint not null check (held >= 0),
    committed bigint not null check (committed >= 0),
    released bigint not null check (released >= 0),
    primary key (reservation_id, sku, location_id)
);
create index reservation_line_held on reservation_line (sku, location_id) where held > 0;

-- Requests that a repeat must not do again, by the ids that their callers made.
create table operation (
    operation_id uuid primary key,
    digest bytea not null,
    at timestamptz not null
);
create index operation_by_age on operation (at);

-- What changed on_hand: never altered, never deleted.
create table movement (
    movement_id uuid primary key,
    sku text collate "C" not null,
    location_id uuid not null,
    kind text not null,
    reason text not null,
    units bigint not null check (units <> 0),
    on_hand bigint not null,
    operation_id uuid not null,
    reference text not null,
    actor text not null,
    effective_at timestamptz not null,
    created_at timestamptz not null
);
create index movement_by_age on movement (created_at, movement_id);
create index movement_by_sku on movement (sku, created_at, movement_id);
create index movement_by_operation on movement (operation_id);
create index movement_by_reference on movement (reference) where reference <> '';

create table transfer (
    transfer_id uuid primary key,
    from_location_id uuid not null,
    to_location_id uuid not null,
    state text not null check (state in ('IN_TRANSIT', 'RECEIVED', 'CANCELLED')),
    reference text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index transfer_by_age on transfer (created_at, transfer_id);
create index transfer_under_way on transfer (transfer_id) where state = 'IN_TRANSIT';

create table transfer_line (
    transfer_id uuid not null,
    sku text collate "C" not null,
    units bigint not null check (units > 0),
    received bigint not null check (received between 0 and units),
    primary key (transfer_id, sku)
);

-- Levels that fell low and of which no mail has told yet; `mail_id` is of the mail that is about to.
create table low_stock (
    sku text collate "C" not null,
    location_id uuid not null,
    available bigint not null,
    alert_at bigint not null,
    mail_id uuid,
    at timestamptz not null,
    primary key (sku, location_id)
);
