"""A network drawn in the manner of the paper's Figure 2: both towers, volumes to scale."""

import dataclasses
import pathlib

from alexnet_jax.model import layers
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, LocallyConnected, Output
from alexnet_jax.runtime.errors import UserError

FORMATS = (".png", ".svg", ".pdf")
MAP, UNIT = 0.45, 0.055  # lengths of a map and of a dense unit, where a pixel has 1
DEPTH = (0.38, 0.30)  # how a pixel of depth is drawn
GAP = 78.0  # between two layers
DENSE_WIDTH = 9.0
TOWER_COLOURS = ("#c0504d", "#1f6fb2")
GREY = "#777777"
FOLLOWING = {
    layers.MaxPool: "max-pool",
    layers.AveragePool: "mean-pool",
    layers.Dropout: "dropout",
    layers.ResponseNorm: "norm",
    layers.SpatialNorm: "spatial norm",
    layers.ContrastNorm: "contrast norm",
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A layer with weights: its output in one tower, and what leads to it and follows it."""

    name: str
    shape: tuple[int, ...]
    how: str
    after: str
    crosses: bool

    @property
    def size(self) -> tuple[float, float, float]:
        """Width, height and depth as drawn."""
        if len(self.shape) == 1:
            return DENSE_WIDTH, UNIT * self.shape[0], 0.0
        return MAP * self.shape[2], self.shape[0], self.shape[1]

    @property
    def extent(self) -> float:
        """How far it reaches to the right."""
        width, _, depth = self.size
        return width + DEPTH[0] * depth


def stages(architecture: Architecture, num_classes: int) -> list[Stage]:
    """What is drawn, in order."""
    drawn, crosses = [], False
    for layer, shape in architecture.shapes():
        match layer:
            case layers.Exchange():
                crosses = True
            case Convolution() | LocallyConnected():
                stride = f", stride {layer.stride}" if getattr(layer, "stride", 1) > 1 else ""
                also = getattr(layer, "low_resolution", None)
                how = f"{layer.size}x{layer.size}{stride}" + "\n+ low resolution" * bool(also)
                output = layer.output(shape, architecture.towers)
                drawn.append(Stage(layer.name, output, how, "", crosses))
                crosses = False
            case Dense():
                output = layer.output(shape, architecture.towers)
                drawn.append(Stage(layer.name, output, "dense", "", crosses))
                crosses = False
            case Output():
                drawn.append(Stage(layer.name, (num_classes,), "softmax", "", True))
            case _ if type(layer) in FOLLOWING:
                what = FOLLOWING[type(layer)]
                last = drawn[-1]
                after = f"{last.after}\n{what}".strip()
                drawn[-1] = dataclasses.replace(last, after=after)
    return drawn


def draw_network(architecture: Architecture, num_classes: int, path: pathlib.Path) -> None:
    """Write the picture; UserError where its kind or place can't be written."""
    if path.suffix not in FORMATS:
        raise UserError(f"--plot={path} must end in {', '.join(FORMATS)}.")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, side = stages(architecture, num_classes), architecture.input_size
    tallest = max(stage.size[1] + DEPTH[1] * stage.size[2] for stage in drawn)
    rise = (tallest + 90) / 2 if architecture.towers == 2 else 0.0
    heights = (rise, -rise)[: architecture.towers]  # tower 1 above tower 2
    length = side * DEPTH[0] + MAP * 3 + sum(stage.extent + GAP for stage in drawn)
    reach = max(rise + tallest / 2, side * (1 + DEPTH[1]) / 2) + 74
    figure, axes = pyplot.subplots(figsize=((length + 40) / 82, 2 * reach / 82))
    image = Stage("image", (side, side, architecture.channels), "", "", False)
    _volume(axes, 0.0, 0.0, image, "#999999")
    _write(axes, image.extent / 2, -side / 2 - 12, f"{side}x{side}x{architecture.channels}")
    before, at = [(image.extent / 2 + 6, 0.0)] * len(heights), image.extent + GAP
    for stage in drawn:
        softmax = stage is drawn[-1]
        places = (0.0,) if softmax else heights
        width, height, depth = stage.size
        for tower, level in enumerate(places):
            for origin, (x, y) in enumerate(before):
                from_other = origin != tower and not softmax
                if stage.crosses or not from_other:
                    axes.plot(
                        [x, at - 3], [y, level], ls=(0, (4, 3)) if from_other else "-",
                        color=TOWER_COLOURS[origin], lw=1.0, alpha=0.8, zorder=1,
                    )  # fmt: skip
            colour = GREY if softmax else TOWER_COLOURS[tower]
            _volume(axes, at, level, stage, colour)
            top = level + height / 2 + DEPTH[1] * depth + 7
            _write(axes, at + stage.extent / 2, top, stage.name, weight="bold", va="bottom")
            below = f"{'x'.join(map(str, stage.shape))}\n{stage.after}".rstrip()
            _write(axes, at + stage.extent / 2, level - height / 2 - 6, below)
        _write(axes, at - GAP / 2, -reach + 14, stage.how, color=GREY, style="italic")
        before = [(at + stage.extent + 3, level) for level in places]
        at += stage.extent + GAP
    axes.set_xlim(-20, at - GAP + 30)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.axis("off")
    _write(axes, 0, reach, architecture.name, ha="left", fontsize=15, weight="bold")
    if architecture.towers == 2:
        note = "dashed: what a tower receives from the other"
        _write(axes, 0, reach - 24, note, ha="left", fontsize=9, color=GREY)
    save_figure(figure, path)


def save_figure(figure, path: pathlib.Path) -> None:
    """Write a figure of pyplot and close it; UserError where that can't be done."""
    from matplotlib import pyplot

    try:
        figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white")
    except OSError as error:
        raise UserError(f"--plot={path} can't be written ({error.strerror}).") from error
    finally:
        pyplot.close(figure)


def _volume(axes, x: float, y: float, stage: Stage, colour: str) -> None:
    """A box with its left front edge at x, centred on the height y."""
    from matplotlib.patches import Polygon

    width, height, depth = stage.size
    low, high = y - height / 2, y + height / 2
    right, up = DEPTH[0] * depth, DEPTH[1] * depth
    front = [(x, low), (x + width, low), (x + width, high), (x, high)]
    top = [(x, high), (x + width, high), (x + width + right, high + up), (x + right, high + up)]
    end = [(x + width, low), (x + width + right, low + up), (x + width + right, high + up),
           (x + width, high)]  # fmt: skip
    for face, alpha in ((front, 0.45), (top, 0.25), (end, 0.33)):
        axes.add_patch(Polygon(face, facecolor="white", edgecolor="none", zorder=2))
        axes.add_patch(Polygon(face, facecolor=colour, alpha=alpha, edgecolor="none", zorder=3))
        axes.add_patch(Polygon(face, facecolor="none", edgecolor=colour, lw=0.8, zorder=4))


def _write(axes, x: float, y: float, text: str, **style) -> None:
    axes.text(x, y, text, **{"ha": "center", "va": "top", "fontsize": 8, "zorder": 5} | style)
