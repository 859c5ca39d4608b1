"""What a training step sends between devices, read off the list of layers.

Layouts of a mesh "data" x "model": `data` has everything on every device; `towers` has one tower on
each of two neighbours; `hybrid` has the convolutions everywhere and splits the units of each dense
layer over "data", where all devices see the whole batch (Krizhevsky, arXiv 1404.5997).
`tests/benchmark/test_traffic.py` holds all three against the compiled program.
"""

import dataclasses
import math
from collections.abc import Iterator

from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Exchange,
    LocallyConnected,
    Output,
    ResponseNorm,
    Weighted,
)
from alexnet_jax.parallel.axes import DATA_AXIS, MODEL_AXIS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.layouts import LAYOUTS

FORWARD, BACKWARD, GRADIENT = "forward", "backward", "gradient"
ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all-reduce", "all-gather", "reduce-scatter"
WIDE = 4  # bytes of logits, their sums and the output's bias, never narrower than float32


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One collective operation of a device.

    `values` are the numbers of the full array: the result of a gather, the input of a scatter, the
    array of an all-reduce; `width` is the bytes of each. `layer`, one with weights, cannot start
    forward before the transfer, or has the gradients that it sums.
    """

    name: str
    kind: str
    axis: str
    values: int
    width: int
    phase: str
    layer: str

    @property
    def size(self) -> int:
        """Bytes of the full array."""
        return self.values * self.width


def transfers(
    architecture: Architecture,
    num_classes: int,
    layout: str,
    *,
    data: int,
    model: int,
    batch_size: int,
    width: int = 4,
) -> tuple[Transfer, ...]:
    """Everything that a device sends in a step, forward, then backward, then gradients.

    `batch_size` is global, `width` the bytes of an activation. Gradients are in the order of their
    layers, last to first; they are summed in the type of the activations, into which the step casts
    the parameters. An axis of one device sends nothing. UserError where the layout does not fit.
    """
    _check(architecture, layout, data=data, model=model, batch_size=batch_size)
    forward: list[Transfer] = []
    if layout == "towers":
        forward += _between_towers(architecture, num_classes, batch_size // data, width)
    if layout == "hybrid":
        forward += _between_units(architecture, num_classes, batch_size, width)
    backward = []
    for transfer in reversed(forward):
        kind = REDUCE_SCATTER if transfer.kind == ALL_GATHER else ALL_GATHER
        if transfer.kind != ALL_REDUCE:
            name = f"backward: {transfer.name}"
            backward.append(dataclasses.replace(transfer, name=name, kind=kind, phase=BACKWARD))
    sums = _gradients(architecture, num_classes, layout, width)
    sizes = {DATA_AXIS: data, MODEL_AXIS: model}
    return tuple(one for one in (*forward, *backward, *sums) if sizes[one.axis] > 1)


def traffic_table(
    architecture: Architecture, num_classes: int, layouts: list[str], width: int
) -> str:
    """What each layout sends: values for an image and values for a step whatever its images."""
    lines = [
        f"{'layout':<8}{'what':<40}{'kind':<16}{'axis':<7}{'values an image':>16}"
        f"{'values a step':>15}{'bytes each':>12}"
    ]
    for layout in layouts:
        model = 2 if layout == "towers" else 1
        try:
            of_step = transfers(
                architecture, num_classes, layout, data=2, model=model, batch_size=2, width=width
            )
        except UserError:
            continue  # the caller says why the layout is left out
        # With two data shards of one image: hybrid's arrays have both images, others one.
        images = 2 if layout == "hybrid" else 1
        for one in of_step:
            an_image, a_step = f"{one.values // images:,}", ""
            if one.phase == GRADIENT:
                an_image, a_step = "", f"{one.values:,}"
            lines.append(
                f"{layout:<8}{one.name:<40}{one.kind:<16}{one.axis:<7}{an_image:>16}"
                f"{a_step:>15}{one.width:>12}"
            )
    return "\n".join(lines)


def _check(
    architecture: Architecture, layout: str, *, data: int, model: int, batch_size: int
) -> None:
    name, towers = architecture.name, architecture.towers
    if layout not in LAYOUTS:
        raise UserError(f"There is no layout '{layout}': use {', '.join(LAYOUTS)}.")
    if layout == "towers" and (towers != 2 or model != 2):
        raise UserError(
            f"Layout towers needs two towers on pairs of devices; {name} has {towers} on {model}: "
            "use layout data."
        )
    if layout != "towers" and model != 1:
        raise UserError(f"Layout {layout} has one device along model, not {model}: use towers.")
    if min(data, batch_size) < 1 or batch_size % data:
        raise UserError(
            f"A batch of {batch_size:,} images cannot be shared by {data:,} devices or pairs: "
            "use a multiple."
        )
    if layout != "hybrid":
        return
    dense = [layer for layer in architecture.layers if isinstance(layer, Dense)]
    if not dense:
        raise UserError(f"Layout hybrid splits dense layers and {name} has none: use layout data.")
    for layer in dense:
        if layer.units // towers % data:
            raise UserError(
                f"The {layer.units // towers:,} units of {layer.name} in a tower cannot be split "
                f"over {data:,} devices: use layout data."
            )


def _between_towers(
    architecture: Architecture, num_classes: int, batch_size: int, width: int
) -> Iterator[Transfer]:
    """Activations where towers meet, and the sum of their logits."""
    for index, (layer, shape) in enumerate(architecture.shapes()):
        following = _weighted_from(architecture, index)
        values = batch_size * math.prod(shape) * architecture.towers
        gather = (ALL_GATHER, MODEL_AXIS, values, width, FORWARD, following)
        match layer:
            case Exchange():
                yield Transfer(f"gather before {following}", *gather)
            case ResponseNorm(across_towers=True):
                yield Transfer(f"gather in the norm before {following}", *gather)
            case Output():
                logits = (batch_size * num_classes, WIDE, FORWARD, following)
                yield Transfer("partial logits", ALL_REDUCE, MODEL_AXIS, *logits)


def _between_units(
    architecture: Architecture, num_classes: int, batch_size: int, width: int
) -> Iterator[Transfer]:
    """Inputs of the first dense layer, then units of all devices, of the whole batch; logits."""
    towers, split, joined = architecture.towers, False, False
    for layer, shape in architecture.shapes():
        match layer:
            case Exchange():
                joined = True
            case Convolution() | LocallyConnected():
                if split:
                    raise UserError(
                        f"Layout hybrid needs all dense layers after {layer.name}: use layout data."
                    )
                joined = False
            case Dense():
                inputs, parts = batch_size * math.prod(shape), towers
                if joined and split:  # the units travel before the exchange
                    inputs //= towers
                elif joined:  # the towers have one input, which travels once
                    parts = 1
                for tower in range(parts):
                    name = f"gather before {layer.name}"
                    name += f", tower {tower + 1}" if parts > 1 else ""
                    yield Transfer(name, ALL_GATHER, DATA_AXIS, inputs, width, FORWARD, layer.name)
                split, joined = True, False
            case Output():
                logits = (batch_size * num_classes, WIDE, FORWARD, layer.name)
                yield Transfer("partial logits", REDUCE_SCATTER, DATA_AXIS, *logits)


def _gradients(
    architecture: Architecture, num_classes: int, layout: str, width: int
) -> list[Transfer]:
    """Sums over "data" from the last layer to the first, then of numbers of the whole gradient.

    The step checks whether the gradient is finite and at some steps measures its norm; each device
    has another part of it.
    """
    shapes = architecture.parameter_shapes(num_classes)
    layers = {getattr(layer, "name", ""): layer for layer in architecture.layers}
    output = list(shapes)[-1]
    sums = [Transfer("sums of the scores", ALL_REDUCE, DATA_AXIS, 4, WIDE, GRADIENT, output)]
    for name in reversed(shapes):
        counts = {kind: math.prod(shape) for kind, shape in shapes[name].items()}
        if name == output:
            bias = counts.pop("bias")
            sums.append(
                Transfer(
                    f"gradient of {name}'s bias", ALL_REDUCE, DATA_AXIS, bias, WIDE, GRADIENT, name
                )
            )
        if layout == "hybrid" and isinstance(layers[name], Dense | Output):
            continue
        values = sum(counts.values()) // (architecture.towers if layout == "towers" else 1)
        sums.append(
            Transfer(f"gradients of {name}", ALL_REDUCE, DATA_AXIS, values, width, GRADIENT, name)
        )
    if layout != "data":
        axis = MODEL_AXIS if layout == "towers" else DATA_AXIS
        first = next(iter(shapes))
        name = "length and finiteness of the gradient"
        sums.append(Transfer(name, ALL_REDUCE, axis, 2, WIDE, GRADIENT, first))
    return sums


def _weighted_from(architecture: Architecture, index: int) -> str:
    """Name of the first layer with weights at `index` or after it."""
    layers = architecture.layers[index:]
    return next(layer.name for layer in layers if isinstance(layer, Weighted | Output))
