"""`weft mesh`: who is there and who calls whom, in the terminal."""
