"""Reports: figures kept beside the events that make them, so that asking costs a sum and is never late."""
