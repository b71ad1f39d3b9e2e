"""Knows queues, and of every job what was enqueued, how each run ended and what stands in its way.

Owns queues, the record of jobs, dead letters, unique keys, groups, limits and lanes. Does not know what a job
does, who runs it or how: that is the workers' affair, and when it comes due JetStream's.
"""
