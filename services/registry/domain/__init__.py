"""Rules of registry: no I/O, no clock."""
