"""The rpcs of pricing."""
