"""The images with the nearest activations, exactly. May import `tools.features`."""
