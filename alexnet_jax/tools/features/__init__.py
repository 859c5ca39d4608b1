"""Activations of a layer for many images, in a file. May import `tools.load` and `inference`."""
