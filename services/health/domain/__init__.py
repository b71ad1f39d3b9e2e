"""Components, capabilities, and the controller that decides between them."""
