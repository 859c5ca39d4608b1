"""The 2012 update rule from optax parts, with its stepped rates for each group of parameters.

Paper section 5 and Weights::update of the 2012 source (weights.cu):
    v <- momentum * v - decay * rate * w - rate * gradient;    w <- w + v
Biases are not decayed, and a rate of 0 freezes a group completely, its velocity included.
"""

from collections.abc import Mapping

import jax
import optax

# (step, rate) pairs in ascending order, the first at step 0.
StepRates = tuple[tuple[int, float], ...]


def stepped(rates: StepRates) -> optax.Schedule:
    """The rate of the last pair whose step has been reached."""
    schedules = [optax.constant_schedule(rate) for _, rate in rates]
    return optax.join_schedules(schedules, [step for step, _ in rates[1:]])


def group_of(layer: str, kind: str, rates: Mapping[str, StepRates]) -> str:
    """Group of a parameter: "conv1.weights" if it has rates of its own, else "weights"."""
    group = "biases" if kind == "bias" else "weights"
    own = f"{layer}.{group}"
    return own if own in rates else group


def momentum_sgd(
    rates: Mapping[str, StepRates], momentum: float, weight_decay: float
) -> optax.GradientTransformationExtraArgs:
    """The rule above over parameters {layer: {"kernel", "bias"}}.

    `rates` has "weights" and "biases" and may have "LAYER.weights" and "LAYER.biases".
    """

    def labels(parameters):
        return {
            layer: {kind: group_of(layer, kind, rates) for kind in kinds}
            for layer, kinds in parameters.items()
        }

    def rule(group: str) -> optax.GradientTransformation:
        schedule = stepped(rates[group])
        decay = 0.0 if group.endswith("biases") else weight_decay
        return optax.chain(
            optax.add_decayed_weights(decay) if decay else optax.identity(),
            optax.scale_by_learning_rate(schedule),
            # A rate of 0 alone would let the old velocity go on moving the weights.
            optax.conditionally_mask(optax.trace(momentum), lambda step: schedule(step) > 0),
        )

    return optax.partition({group: rule(group) for group in rates}, labels)


def rates_at(rates: Mapping[str, StepRates], step: int) -> dict[str, float]:
    """The rate of every group at a step, as plain numbers for the log."""
    return {
        group: [rate for start, rate in pairs if start <= step][-1]
        for group, pairs in rates.items()
    }


def state_specs(state, parameter_specs: Mapping) -> object:
    """Partition specs of an optimiser state: a velocity lies as its parameter, counts everywhere.

    `state` is any tree whose leaves for parameter layer/kind have a path that ends in these names.
    """

    def spec(path, _):
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
        match names[-2:]:
            case [layer, kind] if layer in parameter_specs and kind in parameter_specs[layer]:
                return parameter_specs[layer][kind]
        return jax.sharding.PartitionSpec()

    return jax.tree_util.tree_map_with_path(spec, state)
