"""Rules of the catalog: states, attributes, prices in time, the tree, words; rows and refusals."""
