-- Up to which position a projection's tables were rebuilt; events up to it are in them.
create table projection (
    name text primary key,
    rebuilt_to bigint not null
);
