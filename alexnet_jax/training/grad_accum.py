"""Gradient accumulation: a step in parts, for batches whose activations need too much memory."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from alexnet_jax.model.architecture import Parameters
from alexnet_jax.parallel.axes import DATA_AXIS
from alexnet_jax.training.metrics import Sums


def is_unrolled() -> bool:
    """Whether the compiled program has every part in full and not a loop over them.

    So on a CPU, where it saves no memory then: XLA (jaxlib 0.10.2) makes convolutions fast outside
    of loops alone, the gradient of one inside took fifty times as long.
    """
    return jax.default_backend() == "cpu"


def accumulate(
    gradients_of_part: Callable[..., tuple[Parameters, Sums]],
    parameters: Parameters,
    specs: Mapping,
    batch: tuple[jax.Array, ...],
    num_parts: int,
) -> tuple[Parameters, Sums]:
    """Sums of `gradients_of_part(parameters, part, *examples)` over parts of this device's batch.

    Called inside `jax.shard_map`; `specs` are those of architecture.partition_specs. `batch` are
    arrays [examples, ...], cut into `num_parts` equal parts. Gradients are of a sum of losses; they
    come back summed over "data", the sums of scores do not.
    """
    if num_parts == 1:
        return gradients_of_part(parameters, 0, *batch)

    def make_varying(parameters):
        return {
            layer: {kind: _varying(value, specs[layer][kind]) for kind, value in kinds.items()}
            for layer, kinds in parameters.items()
        }

    # A gradient of parameters that are equal along "data" would be summed over it in every part.
    # That of each device's copy is not; `sum_over_data` sums once, after the last part.
    local_parameters, sum_over_data = jax.vjp(make_varying, parameters)

    def add(total, part):
        gradients, scores = gradients_of_part(local_parameters, *part)
        return jax.tree.map(jnp.add, total, gradients), scores

    split = (array.reshape(num_parts, -1, *array.shape[1:]) for array in batch)
    zeros = jax.tree.map(jnp.zeros_like, local_parameters)
    parts = (jnp.arange(num_parts), *split)
    total, scores = jax.lax.scan(add, zeros, parts, unroll=is_unrolled())
    (gradients,) = sum_over_data(total)
    return gradients, jax.tree.map(lambda score: score.sum(0, dtype=score.dtype), scores)


def _varying(value: jax.Array, spec: jax.sharding.PartitionSpec) -> jax.Array:
    return value if DATA_AXIS in spec else jax.lax.pcast(value, DATA_AXIS, to="varying")
