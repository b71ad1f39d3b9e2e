"""Schedules, calendars and workflows: rows, rules and refusals, one noun a module."""
