"""Job systems that Weft is measured against, each in a module that runs in the peers' own environment."""
