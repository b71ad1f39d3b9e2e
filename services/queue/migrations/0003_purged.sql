-- Up to where messages of the stream may be of jobs that were purged.
alter table queue add column purged_sequence bigint not null default 0;
