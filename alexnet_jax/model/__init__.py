"""The networks as lists of layers, the Flax module that runs such a list, and the plain operations.

This is what a reader of the paper reads; it trains and predicts without the room `kernels`. May
import `parallel` (the names of the mesh axes) and `runtime` (errors), no other room.
"""
