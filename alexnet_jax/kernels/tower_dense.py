"""Products of dense layers, those of all towers in one operation, made for XLA on CPUs.

XLA there copies each tower's kernel out of the array of both, and puts the gradients back by two
more passes. And for few rows it orders the whole kernel anew before it multiplies, which takes
longer than the product: so few rows take forms that read the kernel as it lies.
"""

import jax
import jax.numpy as jnp

from alexnet_jax.kernels import convolution
from alexnet_jax.kernels.materialize import materialize

_FEW, _FEW_BACKWARD = 32, 64  # rows
_BLOCK = 64  # inputs

_TOWERS = ((0,), (0,))  # the batch axes of all products


def is_worth_it(x: jax.Array) -> bool:
    """Whether `product` is meant for such rows: on a CPU, and not in bfloat16 (not measured)."""
    return jax.default_backend() == "cpu" and x.dtype != jnp.bfloat16


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [towers, rows, inputs] times kernel [towers, inputs, units]: [towers, rows, units]."""
    return _product(*convolution.match_varying(x, kernel))


@jax.custom_vjp
def _product(x, kernel):
    if not _at_most(_FEW, x):
        return _contract(x, 2, kernel, 1)
    if len(kernel) == 1:  # one by one pixel
        return convolution.windows(x[:, :, None], kernel[:, None], 0, 0)[:, :, 0]
    towers, inputs, units = kernel.shape
    blocks = inputs // _BLOCK if inputs % _BLOCK == 0 else 1
    parts = jnp.moveaxis(x.reshape(towers, -1, blocks, inputs // blocks), 2, 1)
    parts = materialize(parts.reshape(towers * blocks, -1, inputs // blocks))
    y = _contract(parts, 2, kernel.reshape(towers * blocks, -1, units), 1)
    return y.reshape(towers, blocks, -1, units).sum(1)


def _forward(x, kernel):
    """Each gradient needs the other factor alone: kept where that gradient is asked for."""
    y = _product(x.value, kernel.value)
    return y, (x.value if kernel.perturbed else None, kernel.value if x.perturbed else None)


def _backward(kept, gradient):
    x, kernel = kept
    by_x = None if kernel is None else _by_x(kernel, gradient)
    by_kernel = None if x is None else _by_kernel(x, gradient)
    if by_x is None or by_kernel is None:
        return by_x, by_kernel
    # Both at once, so that XLA sees that nothing reads the kernel when its update is written.
    return materialize((by_x, by_kernel))


def _by_x(kernel, gradient):
    if _at_most(_FEW_BACKWARD, gradient):
        return materialize(_contract(kernel, 2, gradient, 2)).swapaxes(1, 2)
    return _contract(gradient, 2, kernel, 2)


def _by_kernel(x, gradient):
    if len(x) > 1 and _at_most(_FEW_BACKWARD, x):
        return _contract(materialize(x.swapaxes(1, 2)), 2, gradient, 1)
    return _contract(x, 1, gradient, 1)


_product.defvjp(_forward, _backward, symbolic_zeros=True)


def _at_most(most: int, x: jax.Array) -> bool:
    """Whether x has so few rows; an exported network may have any number."""
    rows = x.shape[1]
    return isinstance(rows, int) and rows <= most


def _contract(a: jax.Array, axis: int, b: jax.Array, other: int) -> jax.Array:
    """The product of each tower, summed along `axis` of a and `other` of b."""
    return jax.lax.dot_general(a, b, (((axis,), (other,)), _TOWERS))
