"""The rpcs of registry."""
