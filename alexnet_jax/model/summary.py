"""What a network is and costs, layer by layer, read off its list."""

import dataclasses
import difflib
import math

from alexnet_jax.model import layers as kinds
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import (
    Convolution,
    Dense,
    Layer,
    LocallyConnected,
    Output,
    Shape,
    TowerLayer,
    Weighted,
)

_COSTS = ("parameters", "multiply_adds", "activations")


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer: what it does, its output in one tower, and what it costs in all towers.

    `activations` are counted as in Figure 2 of the paper: outputs of layers with weights.
    """

    name: str
    what: str
    output: Shape
    kernel: Shape
    parameters: int
    multiply_adds: int
    activations: int
    section: str


def summarize(architecture: Architecture, num_classes: int) -> list[Row]:
    """A row for each layer, in order."""
    towers, rows = architecture.towers, []
    all_shapes = architecture.parameter_shapes(num_classes)
    for layer, shape in architecture.shapes():
        name = getattr(layer, "name", "")
        shapes = all_shapes.get(name, {})
        output: Shape
        products = activations = 0
        match layer:
            case Output():
                output, activations = (num_classes,), num_classes
                products = towers * math.prod(shape) * num_classes
            case Convolution() | TowerLayer() | Dense():
                output = layer.output(shape, towers)
                products = towers * multiply_adds(layer, shape, towers)
                activations = towers * math.prod(output)
            case _:
                output = layer.output(shape, towers)
        rows.append(
            Row(
                name,
                describe(layer),
                output,
                kernel=shapes.get("kernel", ())[1:],
                parameters=sum(map(math.prod, shapes.values())),
                multiply_adds=products,
                activations=activations,
                section=section(layer),
            )
        )
    return rows


def multiply_adds(layer: Weighted, shape: Shape, towers: int) -> int:
    """Products of a layer with weights in one tower, for one example of input `shape`.

    In a layer of one's own each weight counts once.
    """
    kernels = {
        kind: math.prod(kernel)
        for kind, kernel in layer.parameters(shape, towers).items()
        if kind != "bias"
    }
    if isinstance(layer, Convolution):  # whose kernels are used at each position
        return math.prod(layer.output(shape, towers)[:2]) * sum(kernels.values())
    return sum(kernels.values())


def describe(layer: Layer) -> str:
    """A few words on a layer, in the terms of the paper."""
    match layer:
        case Convolution():
            text = f"convolution {layer.size}x{layer.size}, {layer.filters} filters"
            text += f", stride {layer.stride}" * (layer.stride > 1)
            text += f", padding {layer.padding}" * (layer.padding > 0)
            return text + ", and of the low-resolution image" * (layer.low_resolution is not None)
        case LocallyConnected():
            return f"locally connected {layer.size}x{layer.size}, {layer.filters} filters"
        case Dense():
            return f"dense, {layer.units} units"
        case Output():
            return "softmax"
        case kinds.Exchange():
            return "<- towers meet ->"
        case kinds.Dropout():
            how = "scaled in training" if layer.scale_in_training else "halved at test"
            return f"dropout, keeps {layer.keep:g}, {how if layer.keep == 0.5 else ''}".rstrip(", ")
        case kinds.ResponseNorm():
            where = f"norm over {layer.n} channels" + " of both towers" * layer.across_towers
            return f"{where}, k {layer.k:g}, alpha {layer.alpha:g}, beta {layer.beta:g}"
        case kinds.ContrastNorm():
            return f"contrast norm {layer.n}x{layer.n}, k {layer.k:g}, alpha {layer.alpha:g}"
        case kinds.SpatialNorm():
            return f"norm over {layer.n}x{layer.n} pixels, k {layer.k:g}, alpha {layer.alpha:g}"
        case kinds.MaxPool():
            return f"max-pool {layer.size}x{layer.size}, stride {layer.stride}"
        case kinds.AveragePool():
            return f"average-pool {layer.size}x{layer.size}, stride {layer.stride}"
        case kinds.Tanh() if (layer.outer, layer.inner) != (1.0, 1.0):
            return f"{layer.outer:g} tanh({layer.inner:.3g} x)"
    return type(layer).__name__


def section(layer: Layer) -> str:
    """Where the paper speaks of such a layer; "source" for what is only in the 2012 source."""
    match layer:
        case kinds.ReLU() | kinds.Tanh():
            return "3.1"
        case kinds.Exchange():
            return "3.2"
        case kinds.ResponseNorm():
            return "3.3"
        case kinds.MaxPool() if layer.size > layer.stride:
            return "3.4"
        case kinds.Dropout():
            return "4.2"
        case Convolution() | Dense() | Output() | kinds.MaxPool():
            return "3.5"
        case kinds.SpatialNorm():
            return "source"
    return ""


def heading(architecture: Architecture, num_classes: int) -> str:
    """A network's name, towers, input and classes."""
    shape = f"{architecture.input_size}x{architecture.input_size}x{architecture.channels}"
    towers = "two towers" if architecture.towers == 2 else "one tower"
    return f"{architecture.name}, {towers}, input {shape}, {num_classes} classes"


def table(architecture: Architecture, num_classes: int) -> str:
    """The layers with parameters as text, with a total.

    A training step costs about six times the multiply-adds.
    """
    rows = [row for row in summarize(architecture, num_classes) if row.parameters]
    lines = [f"{'layer':<8}{'output of a tower':>20}{'parameters':>14}{'multiply-adds':>16}"]
    for row in [*rows, total(rows)]:
        output = _times(row.output)
        lines.append(f"{row.name:<8}{output:>20}{row.parameters:>14,}{row.multiply_adds:>16,}")
    return "\n".join([heading(architecture, num_classes), *lines])


def full_table(architecture: Architecture, num_classes: int) -> str:
    """Every layer as text, with totals."""
    rows = summarize(architecture, num_classes)
    lines: list[tuple[str, ...]]
    lines = [("layer", "", "output of a tower", "kernel of a tower", "parameters",
              "multiply-adds", "activations", "paper")]  # fmt: skip
    for row in [*rows, total(rows)]:
        counts = (f"{n:,}" if n else "" for n in
                  (row.parameters, row.multiply_adds, row.activations))  # fmt: skip
        lines.append((row.name, row.what, _times(row.output), _times(row.kernel), *counts,
                      row.section))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    notes = [f"reported error: {architecture.reported or 'none'}", f"source: {architecture.source}"]
    return "\n".join([heading(architecture, num_classes), *texts, *notes])


def total(rows: list[Row]) -> Row:
    """The sums of all rows."""
    sums = {name: sum(getattr(row, name) for row in rows) for name in _COSTS}
    return Row("total", "", (), (), **sums, section="")


def comparison(one: Architecture, other: Architecture) -> str:
    """Two networks side by side; lines that differ are marked."""
    ours, theirs = (
        [f"{getattr(layer, 'name', ''):<7} {describe(layer)}{_draws(layer)}"
         for layer in architecture.layers]
        for architecture in (one, other)
    )  # fmt: skip
    heads = [heading(architecture, architecture.num_classes) for architecture in (one, other)]
    width = max(map(len, [*ours, heads[0]]))
    lines = [f"{heads[0]:<{width}}     {heads[1]}"]
    matcher = difflib.SequenceMatcher(a=ours, b=theirs, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        left, right = ours[a:b], theirs[c:d]
        for index in range(max(len(left), len(right))):
            texts = [part[index] if index < len(part) else "" for part in (left, right)]
            mark = " " if tag == "equal" else "|" if all(texts) else "<" if texts[0] else ">"
            lines.append(f"{texts[0]:<{width}}  {mark}  {texts[1]}".rstrip())
    for name in _COSTS:
        counts = [getattr(total(summarize(a, a.num_classes)), name) for a in (one, other)]
        mark = " " if counts[0] == counts[1] else "|"
        costs = [f"{name.replace('_', '-')} {count:,}" for count in counts]
        lines.append(f"{costs[0]:<{width}}  {mark}  {costs[1]}")
    return "\n".join(lines)


def _draws(layer: Layer) -> str:
    """How the weights of a layer are drawn."""
    if not isinstance(layer, Weighted | Output):
        return ""
    return f" (weights {layer.deviation:.3g}, bias {layer.bias:g})"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
