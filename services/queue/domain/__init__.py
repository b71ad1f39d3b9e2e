"""Rows and rules of queues and jobs, by noun. No I/O, no clock, no wire."""
