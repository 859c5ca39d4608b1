"""Products of dense layers, those of all towers in one operation, made for XLA on CPUs.

XLA there copies each tower's kernel out of the array of both, and puts the gradients back by two
more passes. And for a small batch it reorders the whole kernel before it multiplies, which takes
longer than the product: so small batches take forms that read the kernel as it lies in memory.
"""

import jax
import jax.numpy as jnp

from alexnet_jax.kernels import convolution
from alexnet_jax.kernels.materialize import materialize

_SMALL_BATCH, _SMALL_BATCH_BACKWARD = 32, 64  # examples
_BLOCK = 64  # inputs

_TOWERS = ((0,), (0,))  # the batch axes of all products


def is_tower_product_faster(x: jax.Array) -> bool:
    """Whether `tower_product` is for such an input: on a CPU; bfloat16 was not measured."""
    return jax.default_backend() == "cpu" and x.dtype != jnp.bfloat16


def tower_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [towers, batch, inputs] times kernel [towers, inputs, units]: [towers, batch, units]."""
    return _product(*convolution.match_both(x, kernel))


@jax.custom_vjp
def _product(x, kernel):
    if not _at_most(_SMALL_BATCH, x):
        return _contract(x, 2, kernel, 1)
    if len(kernel) == 1:  # as a convolution of one pixel by one
        y = convolution.convolve_padded(x[:, :, None], kernel[:, None], pad_height=0, pad_width=0)
        return y[:, :, 0]
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


def _backward(residuals, gradient):
    x, kernel = residuals
    x_gradient = None if kernel is None else _x_gradient(kernel, gradient)
    kernel_gradient = None if x is None else _kernel_gradient(x, gradient)
    if x_gradient is None or kernel_gradient is None:
        return x_gradient, kernel_gradient
    # Both at once, so that XLA sees that nothing reads the kernel when its update is written.
    return materialize((x_gradient, kernel_gradient))


def _x_gradient(kernel, gradient):
    if _at_most(_SMALL_BATCH_BACKWARD, gradient):
        return materialize(_contract(kernel, 2, gradient, 2)).swapaxes(1, 2)
    return _contract(gradient, 2, kernel, 2)


def _kernel_gradient(x, gradient):
    if len(x) > 1 and _at_most(_SMALL_BATCH_BACKWARD, x):
        return _contract(materialize(x.swapaxes(1, 2)), 2, gradient, 1)
    return _contract(x, 1, gradient, 1)


_product.defvjp(_forward, _backward, symbolic_zeros=True)


def _at_most(most: int, x: jax.Array) -> bool:
    """Whether the batch has at most so many examples; that of an exported network is symbolic."""
    batch = x.shape[1]
    return isinstance(batch, int) and batch <= most


def _contract(a: jax.Array, axis: int, b: jax.Array, other: int) -> jax.Array:
    """The product of each tower, summed along `axis` of a and `other` of b."""
    return jax.lax.dot_general(a, b, (((axis,), (other,)), _TOWERS))
