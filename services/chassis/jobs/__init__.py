"""Jobs, for those who write handlers and those who enqueue."""
