"""Which images lie next to each other in what a layer says of them."""
