"""The 2012 update rule from optax parts, with the learning rates of each group of parameters.

Paper section 5 and Weights::update of the 2012 source (weights.cu):
    v <- momentum * v - decay * rate * w - rate * gradient;    w <- w + v
Biases have a decay of their own, 0 in 2012. A rate of 0 freezes a group completely, its velocity
included.

For large batches, LARS (You, Gitman, Ginsburg 2017, arXiv 1708.03888) scales decay and gradient of
a weight matrix first, so that they are as long as a fraction of the weights.

The rate of a group at a step is that of its own steps, times the schedule's factor that all groups
share (warm-up, cosine), times the factor of the plateau rule, which the training state carries.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alexnet_jax.training import custom_optimizers

Tree = TypeVar("Tree")
# (step, rate) pairs in ascending order, the first at step 0.
StepRates = tuple[tuple[int, float], ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that are updated alike: their stepped rates and their weight decay."""

    learning_rates: StepRates
    weight_decay: float = 0.0

    @property
    def is_frozen(self) -> bool:
        """Whether its rate is 0 from the first step to the last."""
        return not any(rate for _, rate in self.learning_rates)

    @property
    def never_frozen(self) -> bool:
        """Whether its rate is never 0."""
        return all(rate for _, rate in self.learning_rates)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The factor on the rates of all groups; without warm-up and cosine it is 1.

    Over the first `warmup` steps it grows linearly, from 1 / warmup to 1. Then, if `cosine` is not
    0, it falls along half a cosine and would be 0 at step `cosine`.
    """

    warmup: int = 0
    cosine: int = 0

    def factor(self, step: jax.Array | int) -> jax.Array | float:
        """The factor at a step."""
        parts, boundaries = [optax.constant_schedule(1.0)], []
        if self.cosine:
            parts = [optax.cosine_decay_schedule(1.0, self.cosine - self.warmup)]
        if self.warmup > 1:
            # Not from 0, since a rate of 0 means frozen.
            rise = optax.linear_schedule(1 / self.warmup, 1.0, self.warmup - 1)
            parts, boundaries = [rise, *parts], [self.warmup]
        return optax.join_schedules(parts, boundaries)(step)


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Divide the rates by `factor` when the validation error stops improving (paper section 5).

    That is when `patience` evaluations in a row were no better than the best one before; at most
    `times` times.
    """

    patience: int
    factor: float
    times: int

    def observe(self, seen: "PlateauState", error: float) -> "PlateauState":
        """What is known after one more evaluation."""
        if seen.best is None or error < seen.best:
            return PlateauState(error, 0, seen.drops)
        if seen.waited + 1 < self.patience or seen.drops == self.times:
            return PlateauState(seen.best, seen.waited + 1, seen.drops)
        return PlateauState(seen.best, 0, seen.drops + 1)

    def rate_factor(self, seen: "PlateauState") -> float:
        """What the rates are multiplied by now."""
        return self.factor**-seen.drops


@dataclasses.dataclass(frozen=True)
class PlateauState:
    """Best validation error so far, evaluations without a better one, divisions made."""

    best: float | None = None
    waited: int = 0
    drops: int = 0


def stepped(rates: StepRates) -> optax.Schedule:
    """The rate of the last pair whose step has been reached."""
    schedules = [optax.constant_schedule(rate) for _, rate in rates]
    return optax.join_schedules(schedules, [step for step, _ in rates[1:]])


def group_of(layer: str, kind: str, groups: Mapping[str, Group]) -> str:
    """Group of a parameter: "conv1.weights" if it has one of its own, else "weights"."""
    group = "biases" if kind == "bias" else "weights"
    layer_group = f"{layer}.{group}"
    return layer_group if layer_group in groups else group


def frozen_layers(groups: Mapping[str, Group], layers: Iterable[str]) -> frozenset[str]:
    """Those of `layers` whose weights and biases are both frozen over the whole run."""
    return frozenset(
        layer
        for layer in layers
        if all(groups[group_of(layer, kind, groups)].is_frozen for kind in ("kernel", "bias"))
    )


def momentum_sgd(
    groups: Mapping[str, Group],
    momentum: float,
    *,
    schedule: Schedule = Schedule(),
    trust_coefficient: float | None = None,
    velocity_dtype: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The rule above over parameters {layer: {"kernel", "bias"}}.

    `groups` has "weights" and "biases" and may have "LAYER.weights" and "LAYER.biases". `update`
    takes the plateau rule's factor as `rate_factor`. What is frozen over the whole run has no
    velocity. With a `trust_coefficient`, LARS's fraction, the rule for weights is LARS. Velocities
    are kept as `velocity_dtype`, by default that of the parameters; weights move by the new one
    before it is rounded.
    """
    # A Python number would become bfloat16 beside such a velocity, and 0.9 there is 0.8984.
    trace = optax.trace(momentum)
    if velocity_dtype is not None:
        trace = optax.trace(np.float32(momentum), accumulator_dtype=velocity_dtype)

    def rule(name: str, group: Group) -> optax.GradientTransformation:
        if group.is_frozen:
            return optax.set_to_zero()
        learning_rate = stepped(group.learning_rates)
        # A Python bool where it is certain: else XLA copies velocities for both cases.
        moves = lambda step: group.never_frozen or learning_rate(step) > 0  # noqa: E731
        decay = group.weight_decay
        direction = optax.add_decayed_weights(decay) if decay else optax.identity()
        if trust_coefficient is not None and name.endswith("weights"):
            direction = optax.chain(direction, _scale_by_trust_ratios(trust_coefficient))
        return optax.chain(
            direction,
            optax.scale_by_learning_rate(lambda step: learning_rate(step) * schedule.factor(step)),
            _scale_by_rate_factor(),
            # A rate of 0 alone would let the old velocity go on moving the weights.
            optax.conditionally_mask(trace, moves),
        )

    rules = {name: rule(name, group) for name, group in groups.items()}
    return optax.partition(rules, functools.partial(_labels, groups))


def named_rule(
    name: str,
    groups: Mapping[str, Group],
    momentum: float,
    *,
    schedule: Schedule = Schedule(),
    arguments: Mapping[str, object] = MappingProxyType({}),
) -> optax.GradientTransformationExtraArgs:
    """Another rule, as custom_optimizers.make_rule, with the learning rates and decays of `groups`.

    As for `momentum_sgd`, a rate of 0 freezes a group, and `update` takes `rate_factor`.
    """

    def rule(group: Group) -> optax.GradientTransformation:
        if group.is_frozen:
            return optax.set_to_zero()
        learning_rate = stepped(group.learning_rates)
        made = custom_optimizers.make_rule(
            name,
            lambda step: learning_rate(step) * schedule.factor(step),
            weight_decay=group.weight_decay,
            momentum=momentum,
            arguments=arguments,
        )
        if not group.never_frozen:
            made = optax.conditionally_mask(made, lambda step: learning_rate(step) > 0)
        return optax.chain(made, _scale_by_rate_factor())

    rules = {group_name: rule(group) for group_name, group in groups.items()}
    return optax.partition(rules, functools.partial(_labels, groups))


def _labels(groups: Mapping[str, Group], parameters: Mapping) -> dict[str, dict[str, str]]:
    return {
        layer: {kind: group_of(layer, kind, groups) for kind in kinds}
        for layer, kinds in parameters.items()
    }


def _scale_by_trust_ratios(coefficient: float) -> optax.GradientTransformation:
    """LARS's ratio for each tower's matrix, since in 2012 towers were matrices of their own.

    So it does not matter which towers live on a device.
    """
    ratio = optax.scale_by_trust_ratio(trust_coefficient=coefficient)

    @jax.vmap
    def of_towers(update, weights):
        return ratio.update(update, optax.EmptyState(), weights)[0]

    return optax.stateless(lambda updates, weights: jax.tree.map(of_towers, updates, weights))


def _scale_by_rate_factor() -> optax.GradientTransformationExtraArgs:
    def update(updates, state, parameters=None, *, rate_factor=1.0, **_):
        return jax.tree.map(lambda u: u * rate_factor, updates), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def keep_where_bad(bad: jax.Array, before: tuple, after: tuple) -> tuple:
    """`before` where `bad`, else `after`, but counts of steps, which are integers, always go on.

    Both are (parameters, optimiser state, average): a step is left out, the schedules go on.
    """

    def choose(old, new):
        return jnp.where(bad, old, new) if jnp.issubdtype(new.dtype, jnp.floating) else new

    return jax.tree.map(choose, before, after)


def learning_rates_at(
    groups: Mapping[str, Group], schedule: Schedule, step: int, rate_factor: float = 1.0
) -> dict[str, float]:
    """The rate of every group at a step, as plain numbers for the log."""
    factor = float(schedule.factor(step)) * rate_factor
    return {
        name: factor * [rate for start, rate in group.learning_rates if start <= step][-1]
        for name, group in groups.items()
    }


def state_specs(state: Tree, parameter_specs: Mapping) -> Tree:
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
