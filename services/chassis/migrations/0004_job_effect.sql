-- Steps of jobs whose effects have committed, so that a further attempt does not repeat them.
create table job_effect (
    job_id uuid not null,
    step text not null,
    at timestamptz not null default now(),
    primary key (job_id, step)
);
create index job_effect_at on job_effect (at);
