-- Run after the chassis's, when JetStream knows no job any more: what is open and waits for nothing is
-- published anew, as though it had been waiting for long, so that workers look it up before they run it.
insert into placement (job_id, at)
select j.job_id, now() - interval '1 hour'
from job j left join steering s on s.job_id = j.job_id
where (j.job_id >= (select up_to from open_horizon) or exists (select from job_open o where o.job_id = j.job_id))
    and not exists (select from blocked b where b.job_id = j.job_id)
    and not exists (select from job_final f where f.job_id = j.job_id and f.run = coalesce(s.run, 1))
on conflict (job_id) do update set sequence = null, at = excluded.at;
-- Sequences of the stream that was.
update queue set purged_sequence = 0;
