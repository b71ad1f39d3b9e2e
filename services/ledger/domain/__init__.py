"""Rules and rows; no I/O, no clock, no wire."""
