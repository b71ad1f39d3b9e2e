"""What is read and written of limits and of what is counted under them."""
