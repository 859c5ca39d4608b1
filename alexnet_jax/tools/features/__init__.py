"""Activations of any layer of a trained network, for many images."""
