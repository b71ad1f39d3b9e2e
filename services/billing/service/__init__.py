"""The rpcs, one noun a module."""
