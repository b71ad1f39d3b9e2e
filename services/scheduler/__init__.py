"""Knows when something shall run, and what comes after what.

Owns calendars, schedules and their runs, workflows and theirs, and webhooks in and out. Does not know what
a job does, nor where it runs: it asks the queue by event, and hears from it by event what became of the job.
"""
