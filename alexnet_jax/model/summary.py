"""What a network costs, layer by layer, read off its list."""

import dataclasses
import math

from alexnet_jax.model.layers import Convolution, Dense, Output
from alexnet_jax.model.network import Architecture


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer with parameters: output of one tower, parameters and multiply-adds of all."""

    name: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


def summarize(architecture: Architecture, classes: int) -> list[Row]:
    """A row for each layer that has parameters, in order."""
    towers, rows = architecture.towers, []
    for layer, shape in architecture.shapes():
        match layer:
            case Convolution() | Dense():
                kernel = layer.kernel_shape(shape, towers)
                parameters = towers * (math.prod(kernel) + kernel[-1])
                products = towers * layer.multiply_adds(shape, towers)
                rows.append(Row(layer.name, layer.output(shape, towers), parameters, products))
            case Output():
                products = towers * math.prod(shape) * classes
                rows.append(Row(layer.name, (classes,), products + classes, products))
    return rows


def table(architecture: Architecture, classes: int) -> str:
    """The rows as text with a total; a training step costs about six times the multiply-adds."""
    rows = summarize(architecture, classes)
    total = Row("total", (), sum(r.parameters for r in rows), sum(r.multiply_adds for r in rows))
    towers = "two towers" if architecture.towers == 2 else "one tower"
    lines = [f"{architecture.name}, {towers}, input {architecture.input_size}x"
             f"{architecture.input_size}x{architecture.channels}, {classes} classes"]  # fmt: skip
    lines.append(f"{'layer':<8}{'output of a tower':>20}{'parameters':>14}{'multiply-adds':>16}")
    for row in [*rows, total]:
        output = "x".join(map(str, row.output))
        lines.append(f"{row.name:<8}{output:>20}{row.parameters:>14,}{row.multiply_adds:>16,}")
    return "\n".join(lines)
