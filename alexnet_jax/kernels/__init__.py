"""Faster arithmetic for the same network: each kernel replaces one plain operation of `model.ops`.

`select` gives the operations of a choice such as "tuned". Without this room networks still train,
with kernels=reference. May import `model` and `runtime`, no other room.
"""

from alexnet_jax.kernels.dispatch import select

__all__ = ["select"]
