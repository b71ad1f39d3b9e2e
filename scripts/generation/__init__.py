"""What turns protos/ into gen/: stubs, clients, descriptions, inventory. Reads nothing from the network."""
