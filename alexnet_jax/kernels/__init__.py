"""Faster arithmetic for the same network: each kernel replaces one plain operation of `model.ops`.

`select` gives the operations of a choice such as "tuned". Nothing below this room imports it: with
`reference` the network trains without it. May import `model` (the plain operations) and `runtime`.
"""

from alexnet_jax.kernels.dispatch import select

__all__ = ["select"]
