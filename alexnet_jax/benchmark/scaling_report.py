"""The page of scaling: one device's speed, then predictions as text, JSON and a picture."""

import argparse
import dataclasses
import json
import pathlib

from alexnet_jax.benchmark import links, scaling, traffic
from alexnet_jax.benchmark.cluster import Cluster
from alexnet_jax.benchmark.scaling import Prediction
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.networks import named
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools.model import drawing

FORMATS = (".png", ".svg", ".pdf")
WIDTHS = {"float32": 4, "bfloat16": 2}
COLOURS = {"data": "#1f6fb2", "towers": "#c0504d", "hybrid": "#4f8f3a"}


@dataclasses.dataclass(frozen=True)
class Question:
    """What is to be predicted: weak scaling, or with a `global_batch` strong scaling."""

    architecture: Architecture
    layouts: list[str]
    devices: list[int]
    cluster: Cluster
    dtype: str
    batch: int
    global_batch: int | None


def run(given: argparse.Namespace, terminal: Terminal) -> None:
    """Answer the flags of the page; UserError for those that make no sense."""
    asked = question(given)
    files = [pathlib.Path(name) for name in (given.json, given.plot) if name]
    for path in files:
        if not path.absolute().parent.is_dir():
            raise UserError(f"{path} can't be written: there is no folder {path.parent}.")
    if given.plot and pathlib.Path(given.plot).suffix not in FORMATS:
        raise UserError(f"--plot={given.plot} must end in {', '.join(FORMATS)}.")
    speed, measured = given.images_per_second, None
    if speed is None:
        from alexnet_jax.benchmark import step_time

        measured = step_time.measure(
            asked.architecture, asked.batch, asked.dtype, given.steps, terminal
        )
        speed = measured["images_per_second"]
    elif not 0 < speed < float("inf"):
        raise UserError(f"--images_per_second={speed:g} must be above 0.")
    found, left_out = answer(asked, speed)
    assumed = assumptions(asked, speed, measured)
    terminal.info("\n".join(["Assumptions", *(f"  {line}" for line in assumed)]))
    classes, width = asked.architecture.num_classes, WIDTHS[asked.dtype]
    terminal.info("\n" + traffic.table(asked.architecture, classes, asked.layouts, width))
    terminal.info("\n" + table(found))
    for sentence in left_out:
        terminal.info(sentence)
    if given.json:
        _write_json(pathlib.Path(given.json), asked, speed, measured, assumed, found, left_out)
        terminal.info(f"In {given.json}: all numbers.")
    if given.plot:
        plot(asked, speed, measured is not None, found, pathlib.Path(given.plot))
        terminal.info(f"Drawn: {given.plot}")


def question(given: argparse.Namespace) -> Question:
    """The flags, checked."""
    layouts = given.layouts.split(",")
    for layout in layouts:
        if layout not in traffic.LAYOUTS:
            raise UserError(f"There is no layout '{layout}': use {', '.join(traffic.LAYOUTS)}.")
    if given.dtype not in WIDTHS:
        raise UserError(f"--dtype={given.dtype} must be {' or '.join(WIDTHS)}.")
    try:
        devices = sorted({int(count) for count in given.devices.split(",")})
    except ValueError:
        raise UserError(f"--devices={given.devices} must be numbers like 1,2,4.") from None
    counts = {
        "devices_per_node": given.devices_per_node,
        "batch": given.batch,
        "steps": given.steps,
    }
    if given.global_batch is not None:
        counts["global_batch"] = given.global_batch
    for name, count in {"devices": devices[0], **counts}.items():
        if count < 1:
            raise UserError(f"--{name} must be at least 1, not {count}.")
    cluster = Cluster(given.devices_per_node, links.named(given.inside), links.named(given.between))
    network = named(given.network)
    return Question(
        network, layouts, devices, cluster, given.dtype, given.batch, given.global_batch
    )


def answer(asked: Question, images_per_second: float) -> tuple[list[Prediction], list[str]]:
    """Predictions by devices, then layout, and sentences on those that are impossible."""
    found, reasons = [], {}
    for devices in asked.devices:
        for layout in asked.layouts:
            batch = asked.global_batch or asked.batch * devices
            try:
                found.append(
                    scaling.predict(
                        asked.architecture, asked.architecture.num_classes, layout, devices, batch,
                        images_per_second, asked.cluster, WIDTHS[asked.dtype],
                    )
                )  # fmt: skip
            except UserError as error:
                reasons[layout, devices] = str(error)
    if not found:
        raise UserError(next(iter(reasons.values())))
    return found, [
        f"Left out: {layout} on {devices:,}. {reason}"
        for (layout, devices), reason in reasons.items()
    ]


def assumptions(asked: Question, images_per_second: float, measured: dict | None) -> list[str]:
    """What the numbers rest on, a line each."""
    cluster, name = asked.cluster, asked.architecture.name
    speed = f"{_number(images_per_second)} images/s of {name}'s training step in {asked.dtype}"
    if measured:
        speed += f", measured on one device here: median of {len(measured['seconds'])} steps of "
        speed += f"{measured['batch']} images"
    else:
        speed += " on one device: given, not measured"
    if asked.global_batch:
        images = f"strong scaling: {asked.global_batch:,} images a step, whatever the devices"
    else:
        images = (
            f"weak scaling: {asked.batch:,} images a step and device; a pair of towers shares "
            f"{2 * asked.batch:,}"
        )
    nodes = [f"nodes of {cluster.devices_per_node}; between them {cluster.between.describe()}"]
    if cluster.devices_per_node > 1:
        nodes.append(f"inside a node {cluster.inside.describe()}")
    return [
        speed,
        images,
        "each layer takes its share of the step by multiply-adds, a third of it forward and two "
        "thirds backward; element-wise layers and the update lie within",
        "an image costs the same whatever the images of a device and the width of its layers",
        *nodes,
        "rings inside the nodes, then between them, for a few numbers too, though libraries take "
        "trees for those, which have fewer hops",
        "exchanges of activations are waited for; the sums of gradients, one for each layer, run "
        "beside the rest of the backward pass and cost it nothing, or after all of it",
        "the input pipeline keeps up, all devices are equally fast",
    ]


def table(found: list[Prediction]) -> str:
    """A line for each layout on each number of devices."""
    lines = [
        f"{'':<33}{'MB sent by a device':>20}{'ms: exchanges, and a step':>35}{'efficiency':>18}",
        f"{'devices':>7}  {'layout':<8}{'images a step':>16}{'in node':>10}{'between':>10}"
        f"{'exchanges':>11}{'beside':>12}{'after':>12}{'beside':>10}{'after':>8}",
    ]
    for one in found:
        sent = f"{one.inside_bytes / 1e6:>10,.1f}{one.between_bytes / 1e6:>10,.1f}"
        times = "".join(f"{1e3 * one_time:>12,.2f}" for one_time in (one.beside, one.after))
        lines.append(
            f"{one.devices:>7,}  {one.layout:<8}{one.batch:>16,}{sent}{1e3 * one.exchanges:>11,.2f}"
            f"{times}{one.efficiency_beside:>10.1%}{one.efficiency_after:>8.1%}"
        )
    return "\n".join(lines)


def plot(
    asked: Question, speed: float, measured: bool, found: list[Prediction], path: pathlib.Path
) -> None:
    """Efficiency against devices: a band for each layout between its two bounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.2))
    for layout in asked.layouts:
        own = [one for one in found if one.layout == layout]
        if not own:
            continue
        devices, colour = [one.devices for one in own], COLOURS[layout]
        beside = [100 * one.efficiency_beside for one in own]
        after = [100 * one.efficiency_after for one in own]
        axes.fill_between(devices, after, beside, color=colour, alpha=0.1, lw=0)
        axes.plot(devices, beside, "o-", color=colour, ms=4, label=layout)
        axes.plot(devices, after, "o--", color=colour, ms=3, lw=1)
    axes.plot([], [], "k-", label="gradients summed beside the backward pass")
    axes.plot([], [], "k--", lw=1, label="gradients summed after it")
    axes.set_xscale("log", base=2)
    axes.set_xticks(asked.devices, [f"{count:,}" for count in asked.devices])
    axes.minorticks_off()
    axes.set_ylim(0, 105)
    axes.set_xlabel("devices")
    axes.set_ylabel("efficiency, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    images = f"{asked.global_batch or asked.batch:,} images a "
    images += "step" if asked.global_batch else "device"
    how = "measured" if measured else "given, not measured"
    cluster = asked.cluster
    where = f"nodes of {cluster.devices_per_node}, {cluster.between.name} between"
    if cluster.devices_per_node > 1:
        where += f", {cluster.inside.name} inside"
    axes.set_title(
        f"{asked.architecture.name}: predicted scaling, {images}, {asked.dtype}\n"
        f"one device {_number(speed)} images/s ({how}); {where}",
        fontsize=11,
    )
    drawing.save(figure, path)


def _number(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}"


def _write_json(
    path: pathlib.Path,
    asked: Question,
    images_per_second: float,
    measured: dict | None,
    assumed: list[str],
    found: list[Prediction],
    left_out: list[str],
) -> None:
    from alexnet_jax.runtime.provenance import provenance

    content = {
        "network": asked.architecture.name,
        "dtype": asked.dtype,
        "images_per_second": images_per_second,
        "measured": measured,
        "assumptions": assumed,
        "cluster": dataclasses.asdict(asked.cluster),
        "predictions": [dataclasses.asdict(one) for one in found],
        "left_out": left_out,
        **provenance(),
    }
    try:
        path.write_text(json.dumps(content, indent=1))
    except OSError as error:
        raise UserError(f"--json={path} can't be written ({error.strerror}).") from error
