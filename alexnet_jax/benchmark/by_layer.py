"""Each part of a training step alone, at its real shapes: its time and its share of the peak.

The parts are jitted one by one, so that XLA can't fuse them with their neighbours or share what
they read: their sum is not the step's time.
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alexnet_jax.benchmark import flops, machine_peak, turns
from alexnet_jax.benchmark.machine_peak import COPY, PRODUCT
from alexnet_jax.benchmark.step_time import CompiledStep
from alexnet_jax.model import alexnet
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Dropout,
    Exchange,
    Layer,
    Output,
    ResponseNorm,
    TowerLayer,
    Weighted,
)
from alexnet_jax.model.ops import Operations, Params
from alexnet_jax.runtime.terminal import ProgressLine, Terminal
from alexnet_jax.training import metrics

SAMPLES = 3
STEP = "whole step"
FORWARD, WEIGHTS, INPUT, BACKWARD = "forward", "weight gradient", "input gradient", "backward"


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a step: `operations` of its products, and the bytes that go in and come out."""

    name: str
    contestant: turns.Contestant
    operations: int
    bytes: int


def measure_layers(compiled: CompiledStep, tiny: bool, terminal: Terminal) -> dict:
    """Times of all parts, with the whole step and the machine's peak in the same turns.

    Each part has `operations`, `bytes`, `seconds` and its `share` of the peak, that of products or
    of copies, whichever it is nearer to (`of`).
    """
    terminal.live("compiling each layer alone")
    parts = list(_parts(compiled))
    contestants, peak_work = machine_peak.peak_contestants(compiled.steps.dtype.name, tiny)
    contestants |= {STEP: compiled} | {part.name: part.contestant for part in parts}
    report = ProgressLine("each layer alone", terminal, "turns")
    seconds = turns.take_turns(contestants, SAMPLES, report)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    peak = {name: peak_work[name] / median[name] for name in (PRODUCT, COPY)}
    measured = []
    for part in parts:
        took = median[part.name]
        shares = {PRODUCT: part.operations / took / peak[PRODUCT],
                  COPY: part.bytes / took / peak[COPY]}  # fmt: skip
        nearer = max(shares, key=lambda name: shares[name])
        measured.append(
            {"part": part.name, "seconds": took, "operations": part.operations,
             "bytes": part.bytes, "share": shares[nearer], "of": nearer}
        )  # fmt: skip
    return {
        "parts": measured,
        "sum_seconds": sum(median[part.name] for part in parts),
        "step_seconds": median[STEP],
        "peak": {"operations_per_second": peak[PRODUCT], "bytes_per_second": peak[COPY]},
    }


def _parts(compiled: CompiledStep) -> Iterator[Part]:
    """In the order of a step; each layer's activations are the input of the next."""
    # Copies, since a step takes its state's memory.
    steps, parameters = compiled.steps, jax.tree.map(jnp.copy, compiled.state.parameters)
    architecture, batch_size = steps.architecture, len(compiled.images)
    augment, step = steps.augmented(), np.int32(0)
    inputs = augment(step, compiled.images, compiled.preprocessing)
    crop = machine_peak.repeat(augment, step, compiled.images, compiled.preprocessing)
    yield Part("augmentation", crop, 0, _bytes((compiled.images, inputs)))
    costs = {one.layer: one for one in flops.layer_flops(architecture, steps.num_classes)}
    keys = jax.random.split(jax.random.key(0), batch_size)
    images = inputs.astype(steps.dtype)
    towers, shared, weighted = [images], True, ""  # one array that all towers see
    for layer in architecture.layers:
        params = parameters.get(getattr(layer, "name", ""), {})
        function = _function(layer, architecture.towers, shared, steps.dtype, steps.operations)
        weighted = getattr(layer, "name", weighted)
        name = weighted if params else f"{weighted} {type(layer).__name__}"
        extra = keys if isinstance(layer, Dropout) else images
        cost = costs[weighted] if params else None
        towers, parts = _layer_parts(name, function, params, towers, extra, cost)
        yield from parts
        shared = _is_shared(layer, shared)
    loss = jax.jit(jax.grad(lambda logits, labels: metrics.score(logits, labels)[0].mean()))
    contestant = machine_peak.repeat(loss, towers, compiled.labels)
    yield Part("loss and its gradient", contestant, 0, 2 * _bytes(towers))
    yield _update(compiled)


def _is_shared(layer: Layer, before: bool) -> bool:
    """Whether all towers see one array after a layer, or each its own."""
    return isinstance(layer, Exchange) or (before and not isinstance(layer, Weighted | Output))


def _function(
    layer: Layer, num_towers: int, shared: bool, dtype: jnp.dtype, ops: Operations
) -> Callable:
    """(parameters, towers, images or keys) -> towers, as in the network; logits for the last layer.

    `towers` are the arrays of each tower, or one array: of all side by side, or where `shared` one
    that all see. The third argument is the network's input, for a dropout its keys.
    """

    def function(params: Params, towers: list[jax.Array], extra: jax.Array):
        params = {kind: value.astype(dtype) for kind, value in params.items()}
        if isinstance(layer, Output) or not alexnet.works_on_joined_towers(layer):
            count = num_towers
            towers = towers * count if shared else alexnet.separate_towers(towers, count)
        match layer:
            case Convolution():
                return ops.convolution_of_towers(layer, towers, params, extra, ops)
            case TowerLayer():
                of_towers = [{kind: params[kind][i] for kind in params} for i in range(num_towers)]
                return [layer(*pair) for pair in zip(towers, of_towers, strict=True)]
            case Dense():
                return ops.dense_of_towers(towers, params)
            case Exchange():
                joined = len(towers) < num_towers
                return towers if joined else [alexnet.join_towers(towers)]
            case ResponseNorm(across_towers=True):
                return layer.across(towers, ops)
            case Dropout():
                return [layer.training(x, layer.mask(extra, x.shape[1:])) for x in towers]
            case Output():
                logits = ops.logits_of_towers(towers, params["kernel"])
                return logits + params["bias"].astype(logits.dtype)
        return [layer(x, ops) for x in towers]

    return function


def _layer_parts(
    name: str, function: Callable, params: Params, towers, extra, cost: flops.LayerFlops | None
) -> tuple[list, list[Part]]:
    """(the layer's activations, its forward and backward parts).

    The backward pass starts from what the forward pass of training keeps.
    """

    # Apart, since a gradient that is not asked for need not be computed (kernels.tower_dense).
    def by_weights(params, towers, extra):
        return jax.vjp(lambda params: function(params, towers, extra), params)

    def by_input(params, towers, extra):
        return jax.vjp(lambda towers: function(params, towers, extra), towers)

    batch_size = len(extra)
    result, pull = jax.jit(by_input)(params, towers, extra)
    backward = jax.jit(lambda pull, gradient: pull(gradient)[0])
    forward = machine_peak.repeat(jax.jit(function), params, towers, extra)
    contestants, moved = {FORWARD: forward}, _bytes((params, towers, result))
    operations = {FORWARD: cost.forward if cost else 0}
    if cost:
        _, pull_weights = jax.jit(by_weights)(params, towers, extra)
        contestants[WEIGHTS] = machine_peak.repeat(backward, pull_weights, result)
        operations[WEIGHTS] = cost.weight_gradient
    if cost is None or cost.input_gradient:
        kind = INPUT if cost else BACKWARD
        contestants[kind] = machine_peak.repeat(backward, pull, result)
        operations[kind] = cost.input_gradient if cost else 0
    sizes = dict.fromkeys(contestants, moved) | {BACKWARD: moved + _bytes(pull)}
    return result, [
        Part(f"{name} {kind}", contestant, operations[kind] * batch_size, sizes[kind])
        for kind, contestant in contestants.items()
    ]


def _update(compiled: CompiledStep) -> Part:
    """The optimiser's pass over all parameters, in place as in the step."""
    parameters = jax.tree.map(jnp.copy, compiled.state.parameters)
    velocity = jax.tree.map(jnp.copy, compiled.state.optimizer_state)
    gradients = jax.tree.map(jnp.zeros_like, parameters)
    holder = [parameters, velocity]

    def update(parameters, velocity, gradients):
        updates, velocity = compiled.steps.optimizer.update(
            gradients, velocity, parameters, rate_factor=compiled.state.rate_factor
        )
        return optax.apply_updates(parameters, updates), velocity

    jitted = jax.jit(update, donate_argnums=(0, 1))

    def contestant(repetitions: int) -> None:
        for _ in range(repetitions):
            holder[:] = jitted(*holder, gradients)
        jax.block_until_ready(holder)

    return Part("update", contestant, 0, 5 * _bytes(gradients))


def _bytes(tree) -> int:
    """Of all arrays in a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
