"""Networks as lists of layers, and the Flax module that runs such a list."""
