"""Each part of a training step alone, at its real shapes: what it takes and how near the peak.

The parts are jitted one by one, so that XLA can't fuse them with their neighbours or share what
they read: their sum is not the step's time.
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alexnet_jax.benchmark import machine_peak, turns, work
from alexnet_jax.benchmark.machine_peak import COPY, PRODUCT
from alexnet_jax.benchmark.step_time import Ready
from alexnet_jax.kernels import dispatch
from alexnet_jax.model import collectives
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Dropout,
    Exchange,
    LocallyConnected,
    Output,
    ResponseNorm,
    Weighted,
)
from alexnet_jax.model.ops import REFERENCE as PLAIN
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


def measure(ready: Ready, tiny: bool, terminal: Terminal) -> dict:
    """Times of all parts, with the whole step and the machine's peak in the same turns.

    Each part has `operations`, `bytes`, `seconds` and its `share` of the peak, that of products or
    of copies, whichever it is nearer to (`of`).
    """
    terminal.live("compiling each layer alone")
    parts = list(_parts(ready))
    contestants, peak_work = machine_peak.contestants(ready.steps.compute_dtype.name, tiny)
    contestants |= {STEP: ready} | {part.name: part.contestant for part in parts}
    report = ProgressLine("each layer alone", terminal, "turns")
    seconds = turns.alternate(contestants, SAMPLES, report)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    peak = {name: peak_work[name] / median[name] for name in (PRODUCT, COPY)}
    rows = []
    for part in parts:
        took = median[part.name]
        shares = {PRODUCT: part.operations / took / peak[PRODUCT],
                  COPY: part.bytes / took / peak[COPY]}  # fmt: skip
        nearer = max(shares, key=shares.get)
        rows.append(
            {"part": part.name, "seconds": took, "operations": part.operations,
             "bytes": part.bytes, "share": shares[nearer], "of": nearer}
        )  # fmt: skip
    return {
        "parts": rows,
        "sum_seconds": sum(row["seconds"] for row in rows),
        "step_seconds": median[STEP],
        "peak": {"operations_per_second": peak[PRODUCT], "bytes_per_second": peak[COPY]},
    }


def _parts(ready: Ready) -> Iterator[Part]:
    """In the order of a step; each layer's activations are the input of the next."""
    # Copies, since a step takes its state's memory.
    steps, parameters = ready.steps, jax.tree.map(jnp.copy, ready.state.parameters)
    architecture, rows = steps.architecture, len(ready.images)
    view, number = steps.views(), np.int32(0)
    inputs = view(number, ready.images, ready.preprocessing)
    crop = machine_peak.repeated(view, number, ready.images, ready.preprocessing)
    yield Part("augmentation", crop, 0, _bytes((ready.images, inputs)))
    costs = {one.layer: one for one in work.products(architecture, steps.classes)}
    keys = jax.random.split(jax.random.key(0), rows)
    images = inputs.astype(steps.compute_dtype)
    maps, shared, owner = [images], True, ""  # one array that all towers see
    for layer in architecture.layers:
        own = parameters.get(getattr(layer, "name", ""), {})
        function = _function(layer, architecture.towers, steps.compute_dtype, shared)
        owner = getattr(layer, "name", owner)
        name = owner if own else f"{owner} {type(layer).__name__}"
        extra = keys if isinstance(layer, Dropout) else images
        cost = costs[owner] if own else None
        maps, found = _layer_parts(name, function, own, maps, extra, cost)
        yield from found
        shared = _is_shared(layer, shared)
    loss = jax.jit(jax.grad(lambda logits, labels: metrics.score(logits, labels)[0].mean()))
    contestant = machine_peak.repeated(loss, maps, ready.labels)
    yield Part("loss and its gradient", contestant, 0, 2 * _bytes(maps))
    yield _update(ready)


def _is_shared(layer, before: bool) -> bool:
    """Whether all towers see one array after a layer, or each its own."""
    return isinstance(layer, Exchange) or (before and not isinstance(layer, Weighted | Output))


def _function(layer, towers: int, dtype, shared: bool) -> Callable:
    """(parameters, maps, images or keys) -> maps, as in the network.

    The maps are those of each tower, or one array: of all side by side, or `shared`, which all see.
    """

    def function(own, maps, extra):
        own = jax.tree.map(lambda value: value.astype(dtype), own)
        if not dispatch.is_alike(layer):
            maps = maps * towers if shared else dispatch.apart(maps, towers)
        match layer:
            case Convolution() | LocallyConnected() | Dense():
                return dispatch.weighted(layer, maps, own, extra, PLAIN)
            case Exchange():
                return collectives.exchange(maps, towers)[:1] if len(maps) == towers else maps
            case ResponseNorm(across_towers=True):
                return layer.across(maps)
            case Dropout():
                return [layer.training(x, layer.mask(extra, x.shape[1:])) for x in maps]
            case Output():
                partial = dispatch.partial_logits(layer, maps, own["kernel"], PLAIN)
                return partial + own["bias"].astype(partial.dtype)
        return [layer(x) for x in maps]

    return function


def _layer_parts(
    name: str, function: Callable, own: dict, maps, extra, cost: work.Products | None
) -> tuple[list, list[Part]]:
    """(the layer's activations, its forward and backward parts).

    The backward pass starts from what the forward pass of training keeps.
    """

    # Apart, since a gradient that is not asked for need not be computed (dense.product).
    def by_weights(own, maps, extra):
        return jax.vjp(lambda own: function(own, maps, extra), own)

    def by_input(own, maps, extra):
        return jax.vjp(lambda maps: function(own, maps, extra), maps)

    rows = len(extra)
    result, pull = jax.jit(by_input)(own, maps, extra)
    backward = jax.jit(lambda pull, gradient: pull(gradient)[0])
    forward = machine_peak.repeated(jax.jit(function), own, maps, extra)
    both, moved = {FORWARD: forward}, _bytes((own, maps, result))
    operations = {FORWARD: cost.forward if cost else 0}
    if cost:
        _, pull_weights = jax.jit(by_weights)(own, maps, extra)
        both[WEIGHTS] = machine_peak.repeated(backward, pull_weights, result)
        operations[WEIGHTS] = cost.weight_gradient
    if cost is None or cost.input_gradient:
        kind = INPUT if cost else BACKWARD
        both[kind] = machine_peak.repeated(backward, pull, result)
        operations[kind] = cost.input_gradient if cost else 0
    sizes = dict.fromkeys(both, moved) | {BACKWARD: moved + _bytes(pull)}
    return result, [
        Part(f"{name} {kind}", work_on, operations[kind] * rows, sizes[kind])
        for kind, work_on in both.items()
    ]


def _update(ready: Ready) -> Part:
    """The optimiser's pass over all parameters, in place as in the step."""
    parameters = jax.tree.map(jnp.copy, ready.state.parameters)
    velocity = jax.tree.map(jnp.copy, ready.state.optimizer_state)
    gradients = jax.tree.map(jnp.zeros_like, parameters)
    holder = [parameters, velocity]

    def update(parameters, velocity, gradients):
        updates, velocity = ready.steps.optimizer.update(
            gradients, velocity, parameters, rate_factor=ready.state.rate_factor
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
