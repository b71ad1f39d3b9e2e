"""The rpcs of the catalog."""
