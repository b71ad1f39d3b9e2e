"""Knows how to say something to a person, and what became of what was said.

Owns templates, messages, delivery attempts, suppressed addresses and opt-outs, and in development
the mailbox that stands in for the world. Does not know why a message is sent, or who a user is.
"""
