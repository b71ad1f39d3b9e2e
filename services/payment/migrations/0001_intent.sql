-- A payment: what was asked for, and what is known of it. Amounts are minor units of `currency`.
create table intent (
    intent_id uuid primary key,
    body_mac bytea not null,
    reference text not null,
    customer_id uuid not null,
    currency text not null,
    amount bigint not null check (amount > 0),
    kind text not null,
    method_id uuid,
    sealed_source bytea,
    gateway text not null,
    gateway_ref text not null,
    capture boolean not null,
    top_up boolean not null,
    return_url text not null,
    redirect_url text not null,
    state text not null check (
        state in (
            'REQUIRES_METHOD', 'REQUIRES_CONFIRMATION', 'REQUIRES_ACTION', 'PROCESSING', 'AUTHORISED',
            'SUCCEEDED', 'CANCELLED', 'FAILED'
        )
    ),
    authorised bigint not null check (authorised between 0 and amount),
    captured bigint not null check (captured >= 0),
    refunded bigint not null check (refunded between 0 and captured),
    disputed bigint not null check (disputed >= 0),
    decline_code text not null,
    decline_message text not null,
    cancel_reason text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    expire_at timestamptz,
    look_at timestamptz,
    looks bigint not null
);
create index intent_by_age on intent (created_at, intent_id);
create index intent_by_customer on intent (customer_id, created_at, intent_id);
create index intent_by_reference on intent (reference);
create unique index intent_at_gateway on intent (gateway, gateway_ref) where gateway_ref <> '';
create index intent_to_expire on intent (expire_at) where expire_at is not null;
create index intent_to_look_at on intent (look_at) where look_at is not null;

-- One thing asked of a gateway, written before it is asked.
create table operation (
    kind text not null check (kind in ('AUTHORISE', 'CAPTURE', 'VOID', 'REFUND')),
    operation_id uuid not null,
    intent_id uuid not null references intent,
    asked bigint,
    amount bigint not null check (amount >= 0),
    currency text not null,
    final boolean not null,
    reason text not null,
    state text not null check (state in ('PENDING', 'SUCCEEDED', 'FAILED')),
    decline_code text not null,
    decline_message text not null,
    attempts bigint not null,
    due_at timestamptz,
    effective_at timestamptz not null,
    created_at timestamptz not null,
    ended_at timestamptz,
    primary key (kind, operation_id)
);
create index operation_of_intent on operation (intent_id, created_at);
create index operation_due on operation (due_at) where due_at is not null;
create index refund_by_age on operation (created_at, operation_id) where kind = 'REFUND';

-- Payments at gateways that have no server but us: the sandbox, the bank, the wallet.
create table desk_payment (
    gateway text not null,
    ref text not null,
    customer_id uuid not null,
    currency text not null,
    amount bigint not null check (amount > 0),
    state text not null,
    captured bigint not null check (captured >= 0),
    plan text not null,
    redirect_url text not null,
    return_url text not null,
    decline_code text not null,
    dispute text not null,
    primary key (gateway, ref)
);
create table desk_movement (
    gateway text not null,
    key text not null,
    kind text not null check (kind in ('CAPTURE', 'REFUND')),
    ref text not null,
    amount bigint not null check (amount > 0),
    done boolean not null,
    primary key (gateway, key)
);
create index desk_movement_of_payment on desk_movement (gateway, ref);
