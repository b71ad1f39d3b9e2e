-- Words that are spelled alike. The extension is a trusted one: the owner of the database may make it.
create extension if not exists pg_trgm;

-- Names that are taken, decided under their primary keys before an event is written. Those of a product
-- that was published stay its own for ever; a slug that a product left leads to it still.
create table sku (
    sku text collate "C" primary key,
    product_id uuid not null
);
create index sku_product on sku (product_id);
create table slug (
    slug text collate "C" primary key,
    product_id uuid not null
);
create index slug_product on slug (product_id);

-- Projection `products`.
create table product (
    product_id uuid primary key,
    version bigint not null,
    state text not null,
    slug text not null,
    title text not null,
    brand text not null,
    product_type_id uuid,
    category_ids uuid[] not null,
    skus text[] not null,
    terms text[] not null,
    words tsvector not null,
    create_time timestamptz not null,
    update_time timestamptz not null
);
create index product_words on product using gin (words) where state = 'ACTIVE';
create index product_terms on product using gin (terms) where state = 'ACTIVE';
create index product_categories on product using gin (category_ids);
create index product_type_of on product (product_type_id) where product_type_id is not null;
create index product_created on product (create_time, product_id);
create index product_created_active on product (create_time, product_id) where state = 'ACTIVE';
create index product_title_active on product (title, product_id) where state = 'ACTIVE';
-- All of a product, as the contract has it: apart, so that whatever looks through many reads little.
create table document (
    product_id uuid primary key,
    payload bytea not null
);
-- The lowest price of a product's variants, span by span.
create table price_step (
    product_id uuid not null,
    currency text not null,
    valid_from timestamptz not null,
    valid_to timestamptz not null,
    amount numeric(15, 6) not null,
    primary key (product_id, currency, valid_from)
);
create index price_step_amount on price_step (currency, amount, product_id);
-- Words that a product has or had: what a misspelled one may have meant. It only grows.
create table word (
    word text collate "C" primary key
);
create index word_spelling on word using gin (word gin_trgm_ops);

-- Projection `categories`.
create table category (
    category_id uuid primary key,
    version bigint not null,
    parent_id uuid,
    ancestor_ids uuid[] not null,
    depth bigint not null,
    position bigint not null,
    name text not null,
    product_type_id uuid,
    payload bytea not null,
    create_time timestamptz not null,
    update_time timestamptz not null
);
create index category_order on category (position, name, category_id);
create index category_children on category (parent_id, position, name, category_id);
create index category_below on category using gin (ancestor_ids);
create index category_type on category (product_type_id) where product_type_id is not null;

-- Projection `product_types`.
create table product_type (
    product_type_id uuid primary key,
    version bigint not null,
    name text not null,
    payload bytea not null,
    create_time timestamptz not null,
    update_time timestamptz not null
);
create index product_type_name on product_type (name, product_type_id);

-- What inventory last said of a sku at a place, and the products that can be had.
create table stock (
    sku text collate "C" not null,
    location_id text not null,
    available bigint not null,
    revision bigint not null,
    primary key (sku, location_id)
);
create table in_stock (
    product_id uuid primary key
);

-- How far imports came, and what they refused.
create table catalog_import (
    import_id uuid primary key,
    kind text not null,
    rows_done bigint not null,
    created bigint not null,
    updated bigint not null,
    unchanged bigint not null,
    refused bigint not null,
    begin_time timestamptz not null,
    update_time timestamptz not null
);
create table refused_row (
    import_id uuid not null,
    row bigint not null,
    line bigint not null,
    subject text not null,
    reason text not null,
    message text not null,
    primary key (import_id, row)
);
