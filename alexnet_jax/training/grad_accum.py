"""A step in parts, one after another, where the activations of all rows are too many at once."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from alexnet_jax.model.architecture import Parameters
from alexnet_jax.parallel.axes import DATA_AXIS
from alexnet_jax.training.metrics import Sums


def is_unrolled() -> bool:
    """Whether the compiled program has every part in full and not a loop over them.

    So on CPU, where it saves no memory then, since XLA (jaxlib 0.10.2) makes convolutions fast
    outside of loops alone: the gradient of one inside took fifty times as long.
    """
    return jax.default_backend() == "cpu"


def summed(
    of_part: Callable[..., tuple[Parameters, Sums]],
    parameters: Parameters,
    specs: Mapping,
    rows: tuple[jax.Array, ...],
    parts: int,
) -> tuple[Parameters, Sums]:
    """Sums of `of_part(parameters, part, *rows)` over `parts` equal parts of this device's rows.

    Called inside `jax.shard_map`; `specs` are those of architecture.partition_specs. `of_part`
    takes the gradient of a sum of losses. Gradients come back summed over "data", scores do not.
    """
    if parts == 1:
        return of_part(parameters, 0, *rows)

    def apart(parameters):
        return {
            layer: {kind: _own(value, specs[layer][kind]) for kind, value in kinds.items()}
            for layer, kinds in parameters.items()
        }

    # A gradient of parameters that are equal along "data" would be summed over it in every part.
    # That of each device's own is not; `together` sums once, after the last part.
    own, together = jax.vjp(apart, parameters)

    def add(total, part):
        gradients, scores = of_part(own, *part)
        return jax.tree.map(jnp.add, total, gradients), scores

    split = (array.reshape(parts, -1, *array.shape[1:]) for array in rows)
    nothing = jax.tree.map(jnp.zeros_like, own)
    each = (jnp.arange(parts), *split)
    total, scores = jax.lax.scan(add, nothing, each, unroll=is_unrolled())
    (gradients,) = together(total)
    return gradients, jax.tree.map(lambda score: score.sum(0, dtype=score.dtype), scores)


def _own(value: jax.Array, spec: jax.sharding.PartitionSpec) -> jax.Array:
    return value if DATA_AXIS in spec else jax.lax.pcast(value, DATA_AXIS, to="varying")
