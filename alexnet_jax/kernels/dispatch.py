"""Which kernel computes what: the operations of a choice, on a backend.

A layer is computed in all towers of a device one after the other, or in one operation. Where it was
one operation, the channels of all towers stay side by side in one array, tower 1's first: the list
of the towers' arrays has that one item until a layer needs them apart (model/alexnet.py).
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alexnet_jax.kernels import (
    convolution,
    finite_check,
    narrow_conv,
    pooling,
    response_norm,
    tower_dense,
    winograd,
)
from alexnet_jax.kernels.config import parse
from alexnet_jax.kernels.materialize import materialize
from alexnet_jax.kernels.relu import relu
from alexnet_jax.model import ops
from alexnet_jax.model.ops import Operations, Params


@functools.cache
def select(choice: str, backend: str) -> Operations:
    """The operations of a choice (kernels.config.parse) on a backend: "cpu", "gpu" or "tpu".

    Equal arguments give the same object. UserError for a name that is not known.
    """
    names = parse(choice)
    replaced: dict[str, Callable] = {}
    convolve = _convolve(names, backend)
    if convolve is not None:
        replaced["convolve"] = convolve
    if "add_bias" in names:
        replaced["add_bias"] = convolution.add_bias
    if "relu" in names:
        replaced["relu"] = relu
    if "closed_gradients" in names:
        replaced |= {"max_pool": pooling.max_pool, "average_pool": pooling.average_pool}
        replaced |= {"spatial_norm": response_norm.spatial_norm}
        replaced |= {"contrast_norm": response_norm.contrast_norm}
    norm = _response_norm(names)
    if norm is not None:
        replaced["response_norm"] = norm
    replaced |= _tower_operations(names, backend)
    if "finite_check" in names:
        replaced["has_nonfinite"] = finite_check.has_nonfinite
    if "materialize" in names:
        replaced["materialize"] = materialize
    return Operations(**replaced)


def _convolve(names: frozenset[str], backend: str) -> Callable | None:
    """The convolution of one array, None for the plain one."""
    if backend == "gpu" and "space_to_depth_gpu" in names:
        return convolution.convolve_folding_narrow
    if not names & {"space_to_depth", "winograd", "narrow_conv"}:
        return None

    def convolve(x, kernel, *, stride=1, padding=0, floor=False):
        if stride > 1 and "space_to_depth" in names:
            return convolution.convolve_folded(
                x, kernel, stride=stride, padding=padding, floor=floor
            )
        if backend == "cpu" and stride == 1:
            if "winograd" in names and winograd.saves_products(x, kernel, padding):
                return winograd.convolve_winograd(x, kernel, padding)
            if "narrow_conv" in names and narrow_conv.is_narrow(kernel):
                return narrow_conv.convolve_narrow(x, kernel, padding)
        return ops.convolve(x, kernel, stride=stride, padding=padding, floor=floor)

    return convolve


def _response_norm(names: frozenset[str]) -> Callable | None:
    """The norm across channels, None for the plain one."""
    closed = "closed_gradients" in names
    forms = {"padded_norm": "padded", "banded_norm": "banded"}
    form = next((forms[name] for name in forms if name in names), "shifts")
    if form == "shifts" and not closed:
        return None
    return functools.partial(response_norm.response_norm, sums=form, closed=closed)


def _tower_operations(names: frozenset[str], backend: str) -> dict[str, Callable]:
    """How the towers of one device are computed together."""
    batched = "batched_towers" in names
    joined = batched or "joined_towers" in names
    replaced: dict[str, Callable] = {}
    if joined:
        replaced["logits_of_towers"] = _joined_logits
        replaced["convolution_of_towers"] = functools.partial(
            _joined_convolution, batch_others=batched
        )
    if batched:
        replaced["dense_of_towers"] = _batched_dense
    elif "tower_dense" in names and backend == "cpu":
        replaced["dense_of_towers"] = _dense_at_once
    return replaced


def _joined_convolution(
    layer, towers, params: Params, image, operations: Operations, batch_others: bool
):
    """One convolution of an array that all towers see, with the filters of all, tower 1's first."""
    if len(towers) > 1 and all(x is towers[0] for x in towers):
        return [layer(towers[0], jax.tree.map(_side_by_side, params), image, operations)]
    if len(towers) > 1 and batch_others:
        return _batched_convolution(layer, towers, params, image, operations)
    return ops.convolution_of_towers(layer, towers, params, image, operations)


def _side_by_side(parameter: jax.Array) -> jax.Array:
    """[towers, ..., filters] -> [..., towers * filters]."""
    moved = jnp.moveaxis(parameter, 0, -2)
    return moved.reshape(*moved.shape[:-2], -1)


def _batched_convolution(layer, towers, params: Params, image, operations: Operations):
    """One matrix product of written-out windows, with the towers as its batch axis.

    A mapped convolution would become one with groups, which XLA for CPU computes slowly and for
    which it gathers the batch of all devices.
    """
    patches = dataclasses.replace(operations, convolve=convolution.convolve_patches)
    run = jax.vmap(lambda x, params: layer(x, params, image, patches))
    return list(run(jnp.stack(towers), params))


def _dense_at_once(towers, params: Params):
    """A dense layer in each tower, by one product for all of them."""
    if not tower_dense.is_tower_product_faster(towers[0]):
        return ops.dense_of_towers(towers, params)
    flat = jnp.stack([x.reshape(x.shape[0], -1) for x in towers])
    return list(tower_dense.tower_product(flat, params["kernel"]) + params["bias"][:, None])


def _batched_dense(towers, params: Params):
    """A dense layer in each tower, mapped over the tower axis."""
    if len(towers) == 1:
        return ops.dense_of_towers(towers, params)
    dense = jax.vmap(lambda x, kernel, bias: x.reshape(x.shape[0], -1) @ kernel + bias)
    return list(dense(jnp.stack(towers), params["kernel"], params["bias"]))


def _joined_logits(towers, kernel: jax.Array) -> jax.Array:
    """All towers' logits by one product."""
    if len(towers) == 1:
        return ops.logits_of_towers(towers, kernel)
    flat = [x.reshape(x.shape[0], -1) for x in towers]
    return ops.matmul_widened(jnp.concatenate(flat, axis=-1), kernel.reshape(-1, kernel.shape[-1]))
