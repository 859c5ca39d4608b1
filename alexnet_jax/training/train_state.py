"""What a run carries from step to step, which parameters are for use, and their SHA-256."""

import hashlib
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alexnet_jax.model.architecture import Parameters
from alexnet_jax.parallel import processes
from alexnet_jax.training import metrics


class TrainState(NamedTuple):
    """Everything a run carries from step to step, and all that a checkpoint holds of arrays.

    `rate_factor` multiplies all learning rates (the plateau rule, a return after divergence).
    `scores` are sums over the training images since they were last reset, and `bad_step` is the
    first step since then, counted from 1, whose loss or gradient was not finite; 0 if none was.
    `average` is that of the parameters after all steps, None where none is wanted.
    """

    step: jax.Array
    parameters: Parameters
    optimizer_state: optax.OptState
    rate_factor: jax.Array
    scores: metrics.Sums
    bad_step: jax.Array
    average: Parameters | None = None

    @property
    def for_use(self) -> Parameters:
        """The parameters that are evaluated and given on: the average where there is one."""
        return self.parameters if self.average is None else self.average

    def starting_with(self, parameters: Parameters) -> "TrainState":
        """The same state with other parameters of some layers, before the first step."""
        state = self._replace(parameters=self.parameters | parameters)
        if self.average is None:
            return state
        # A copy, since a step is given both to overwrite.
        return state._replace(average=jax.tree.map(jnp.copy, state.parameters))

    def parted(self) -> tuple[Parameters, dict]:
        """The parameters for use, and what only training needs; `joined` undoes it.

        The latter has the trained parameters, called `trained`, only where they are others.
        """
        rest = self._asdict()
        trained, average = rest.pop("parameters"), rest.pop("average")
        return (trained, rest) if average is None else (average, rest | {"trained": trained})


def joined(for_use: Parameters, rest: dict) -> TrainState:
    """The state that was `parted`."""
    if "trained" not in rest:
        return TrainState(parameters=for_use, **rest)
    others = {name: value for name, value in rest.items() if name != "trained"}
    return TrainState(parameters=rest["trained"], average=for_use, **others)


def averaged(
    average: Parameters, parameters: Parameters, decay: float, step: jax.Array
) -> Parameters:
    """The average with the parameters after `step`, counted from 1; 0 < `decay` < 1.

    It is the sum of decay^(step - t) times the parameters after step t, over the sum of these
    factors. So what was drawn before the first step has no part in it, as in optax.ema.
    """
    share = (1 - decay) / -jnp.expm1(step * math.log(decay))
    return optax.incremental_update(parameters, average, share)


def parameters_sha256(parameters) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters; every process calls it."""
    digest = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameters)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = leaf if isinstance(leaf, np.ndarray) else processes.to_host(leaf)
        array = np.ascontiguousarray(array)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
