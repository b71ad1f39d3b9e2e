"""Knows which components answer, and what each capability of the business can give while some do not.

Owns conditions of components, modes of capabilities, pins, incidents and what they cost. Does not know what
the services do, and no call of theirs passes through here: they hear of modes, and go on without.
"""
