"""The rpcs of health."""
