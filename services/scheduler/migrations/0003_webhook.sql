-- An address for webhooks that come in. `settings` is a weft.scheduler.v1.HookSettings.
create table hook (
    hook_id uuid primary key,
    workflow_id uuid not null references workflow on delete cascade,
    settings bytea not null,
    sealed_secret bytea not null,
    created_at timestamptz not null
);
create index hook_by_age on hook (created_at, hook_id);

-- Where webhooks go to. `settings` is a weft.scheduler.v1.WebhookEndpointSettings.
create table webhook_endpoint (
    endpoint_id uuid primary key,
    settings bytea not null,
    sealed_secret bytea not null,
    created_at timestamptz not null
);
create index webhook_endpoint_by_age on webhook_endpoint (created_at, endpoint_id);

-- One message to one endpoint: written with the transition that it tells of.
create table webhook_delivery (
    delivery_id uuid primary key,
    endpoint_id uuid not null references webhook_endpoint on delete cascade,
    type text not null,
    body text not null,
    state text not null check (state in ('WAITING', 'DELIVERED', 'GIVEN_UP')),
    attempts integer not null,
    status integer not null,
    problem text not null,
    created_at timestamptz not null,
    due_at timestamptz
);
create index webhook_delivery_by_age on webhook_delivery (endpoint_id, created_at, delivery_id);
create index webhook_delivery_ended on webhook_delivery (created_at) where due_at is null;
create index webhook_delivery_due on webhook_delivery (due_at) where due_at is not null;
