"""The rpcs of carts."""
