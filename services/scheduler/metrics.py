"""What scheduler counts."""

from prometheus_client import Counter, Histogram

RUNS = Counter("weft_schedule_runs", "Runs of schedules that ended.", ["state"])
LAG = Histogram(
    "weft_schedule_lag_seconds",
    "From when a run was due to when it was fired.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60),
)
WEBHOOKS = Counter("weft_webhook_attempts", "Attempts to deliver a webhook.", ["outcome"])
