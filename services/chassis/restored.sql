-- What is put right in a database that went back to the moment `at`, beside streams made anew: run once by
-- `weft restore`. Events of the last `days` are published again. Every consumer has a note of those that it
-- had handled by then, all databases having gone back to one moment, and so handles the others, in order.
select to_regclass('public.relay') is not null as ours
\gset
\if :ours
    update relay set position = again.position
    from (select min(position) - 1 as position from event
          where at >= :'at'::timestamptz - make_interval(days => :days)) as again
    where again.position < relay.position;
    -- A note is forgotten some days after it was made; those days begin anew.
    update inbox set at = now();
\endif
