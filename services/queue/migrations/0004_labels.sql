-- Labels of jobs, each `name=value` a row, so that a list by label is an index scan backward like any other,
-- whether one job in a million has the label or all have (EXPLAIN). Most jobs have none. Days as of `job`.
create table job_label (
    label text,
    job_id uuid,
    primary key (label, job_id)
) partition by range (job_id);
do $$
declare
    day record;
begin
    for day in
        select substr(child.relname, 5) as suffix, pg_get_expr(child.relpartbound, child.oid) as bounds
        from pg_inherits join pg_class child on child.oid = inhrelid
        where inhparent = 'job'::regclass
    loop
        execute format('create table %I partition of job_label %s', 'job_label_' || day.suffix, day.bounds);
    end loop;
end
$$;
insert into job_label (label, job_id)
select distinct label, job_id from job cross join lateral unnest(labels) as label;
