-- Documents of invoices and credit notes: made once, the same ever after.
create table document (
    subject_id uuid not null,
    format text not null check (format in ('PDF', 'UBL', 'CII')),
    sha256 bytea not null,
    electronic boolean not null,
    broken_rules text[] not null,
    created_at timestamptz not null,
    primary key (subject_id, format)
);

-- Their bytes, by what they are. Personal, and kept for as long as the law wants invoices kept.
create table document_content (
    sha256 bytea primary key,
    content bytea not null
);
alter table document_content alter content set storage external;
