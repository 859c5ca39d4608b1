"""The reference AlexNet in JAX: the 2012 network, its two towers, its data and its update rule."""
