"""Monitors: how each kind of component is looked at."""
