"""The rpcs of ratelimit."""
