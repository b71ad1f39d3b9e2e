"""The queries that are more than one `tx.get`, one noun a module."""
