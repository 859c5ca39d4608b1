"""What a training step sends between devices, read off the list of layers.

Layouts of a mesh "data" x "model": `data` has everything on every device; `towers` has one tower on
each of two neighbours; `hybrid` has the convolutions everywhere and splits the units of each dense
layer over "data", where all devices see all rows of the batch (Krizhevsky, arXiv 1404.5997).
`tests/test_traffic.py` holds all three against the compiled program.
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
)
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.layouts import LAYOUTS

FORWARD, BACKWARD, GRADIENT = "forward", "backward", "gradient"
ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all-reduce", "all-gather", "reduce-scatter"
DATA, MODEL = "data", "model"
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
    classes: int,
    layout: str,
    data: int,
    model: int,
    batch: int,
    width: int = 4,
) -> tuple[Transfer, ...]:
    """Everything that a device sends in a step, forward, then backward, then gradients.

    `batch` is global, `width` the bytes of an activation. Gradients are in the order in which their
    layers come by; they are summed in the type of the activations, into which the step casts the
    parameters. An axis of one device sends nothing. UserError where the layout does not fit.
    """
    _check(architecture, layout, data, model, batch)
    there = _exchanges(architecture, classes, layout, data, batch, width)
    back = []
    for transfer in reversed(there):
        kind = REDUCE_SCATTER if transfer.kind == ALL_GATHER else ALL_GATHER
        if transfer.kind != ALL_REDUCE:
            name = f"backward: {transfer.name}"
            back.append(dataclasses.replace(transfer, name=name, kind=kind, phase=BACKWARD))
    sums = _gradients(architecture, classes, layout, width)
    sizes = {DATA: data, MODEL: model}
    return tuple(one for one in (*there, *back, *sums) if sizes[one.axis] > 1)


def table(architecture: Architecture, classes: int, layouts: list[str], width: int) -> str:
    """What each layout sends: values for an image and values for a step whatever its images."""
    lines = [
        f"{'layout':<8}{'what':<40}{'kind':<16}{'axis':<7}{'values an image':>16}"
        f"{'values a step':>15}{'bytes each':>12}"
    ]
    for layout in layouts:
        model = 2 if layout == "towers" else 1
        try:
            found = transfers(architecture, classes, layout, 2, model, 2, width)
        except UserError:
            continue  # said where the layout is left out
        # With two data shards of one image: hybrid's arrays have both images, others one.
        rows = 2 if layout == "hybrid" else 1
        for one in found:
            own = one.phase == GRADIENT
            an_image, a_step = ("", f"{one.values:,}") if own else (f"{one.values // rows:,}", "")
            lines.append(
                f"{layout:<8}{one.name:<40}{one.kind:<16}{one.axis:<7}{an_image:>16}"
                f"{a_step:>15}{one.width:>12}"
            )
    return "\n".join(lines)


def _check(architecture: Architecture, layout: str, data: int, model: int, batch: int) -> None:
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
    if min(data, batch) < 1 or batch % data:
        raise UserError(
            f"A batch of {batch:,} images cannot be shared by {data:,} devices or pairs: use a "
            "multiple."
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


def _exchanges(
    architecture: Architecture, classes: int, layout: str, data: int, batch: int, width: int
) -> list[Transfer]:
    """The forward transfers, in order."""
    match layout:
        case "towers":
            return list(_between_towers(architecture, classes, batch // data, width))
        case "hybrid":
            return list(_between_units(architecture, classes, batch, width))
    return []


def _between_towers(
    architecture: Architecture, classes: int, rows: int, width: int
) -> Iterator[Transfer]:
    """Maps where towers meet, and the sum of their logits."""
    for index, (layer, shape) in enumerate(architecture.shapes()):
        following = _weighted_from(architecture, index)
        maps = rows * math.prod(shape) * architecture.towers
        gather = (ALL_GATHER, MODEL, maps, width, FORWARD, following)
        match layer:
            case Exchange():
                yield Transfer(f"gather before {following}", *gather)
            case ResponseNorm(across_towers=True):
                yield Transfer(f"gather in the norm before {following}", *gather)
            case Output():
                logits = (rows * classes, WIDE, FORWARD, following)
                yield Transfer("partial logits", ALL_REDUCE, MODEL, *logits)


def _between_units(
    architecture: Architecture, classes: int, rows: int, width: int
) -> Iterator[Transfer]:
    """Inputs of the first dense layer over all rows, then units over all devices, then logits."""
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
                inputs, parts = rows * math.prod(shape), towers
                if joined and split:  # the units travel before the exchange
                    inputs //= towers
                elif joined:  # the towers have one input, which travels once
                    parts = 1
                for tower in range(parts):
                    name = f"gather before {layer.name}"
                    name += f", tower {tower + 1}" if parts > 1 else ""
                    yield Transfer(name, ALL_GATHER, DATA, inputs, width, FORWARD, layer.name)
                split, joined = True, False
            case Output():
                logits = (rows * classes, WIDE, FORWARD, layer.name)
                yield Transfer("partial logits", REDUCE_SCATTER, DATA, *logits)


def _gradients(architecture: Architecture, classes: int, layout: str, width: int) -> list[Transfer]:
    """Sums over "data" from the last layer to the first, then what is asked of the whole gradient.

    The step looks whether it is finite and, now and then, measures its length; each device has its
    own part of it.
    """
    shapes = architecture.parameter_shapes(classes)
    own = {layer.name: layer for layer in architecture.layers if getattr(layer, "name", "")}
    output = architecture.layers[-1].name
    found = [Transfer("sums of the scores", ALL_REDUCE, DATA, 4, WIDE, GRADIENT, output)]
    for name in reversed(shapes):
        counts = {kind: math.prod(shape) for kind, shape in shapes[name].items()}
        if name == output:
            bias = counts.pop("bias")
            found.append(
                Transfer(f"gradient of {name}'s bias", ALL_REDUCE, DATA, bias, WIDE, GRADIENT, name)
            )
        if layout == "hybrid" and isinstance(own[name], Dense | Output):
            continue
        values = sum(counts.values()) // (architecture.towers if layout == "towers" else 1)
        found.append(
            Transfer(f"gradients of {name}", ALL_REDUCE, DATA, values, width, GRADIENT, name)
        )
    if layout != "data":
        axis = MODEL if layout == "towers" else DATA
        first = next(iter(shapes))
        name = "length and finiteness of the gradient"
        found.append(Transfer(name, ALL_REDUCE, axis, 2, WIDE, GRADIENT, first))
    return found


def _weighted_from(architecture: Architecture, index: int) -> str:
    """Name of the first layer with weights at `index` or after it."""
    return next(layer.name for layer in architecture.layers[index:] if hasattr(layer, "name"))
