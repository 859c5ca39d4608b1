"""The command `benchmark scaling`: a device's speed, then predictions as text, JSON and a plot."""

import argparse
import dataclasses
import pathlib

from alexnet_jax.benchmark import json_output, links, scaling, traffic
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
    """What is to be predicted: weak scaling, or with a `global_batch_size` strong scaling."""

    architecture: Architecture
    layouts: list[str]
    devices: list[int]
    cluster: Cluster
    dtype: str
    batch_size: int
    global_batch_size: int | None


def run_scaling(flags: argparse.Namespace, terminal: Terminal) -> None:
    """Measure or take a speed, predict, print and write; UserError for flags without sense."""
    question = parse_question(flags)
    json_path = json_output.check_json(flags.json) if flags.json else None
    plot_path = _check_plot(flags.plot) if flags.plot else None
    speed, measured = flags.images_per_second, None
    if speed is None:
        from alexnet_jax.benchmark import step_time

        measured = step_time.measure_steps(
            question.architecture,
            batch_size=question.batch_size,
            dtype=question.dtype,
            steps=flags.steps,
            terminal=terminal,
        )
        speed = measured["images_per_second"]
    elif not 0 < speed < float("inf"):
        raise UserError(f"--images_per_second={speed:g} must be above 0.")
    predictions, left_out = predict_all(question, speed)
    assumed = assumptions(question, speed, measured)
    terminal.info("\n".join(["Assumptions", *(f"  {line}" for line in assumed)]))
    num_classes, width = question.architecture.num_classes, WIDTHS[question.dtype]
    sent = traffic.traffic_table(question.architecture, num_classes, question.layouts, width)
    terminal.info(f"\n{sent}\n\n{scaling_table(predictions)}")
    for sentence in left_out:
        terminal.info(sentence)
    if json_path:
        from alexnet_jax.runtime.provenance import provenance

        content = {
            "network": question.architecture.name,
            "dtype": question.dtype,
            "images_per_second": speed,
            "measured": measured,
            "assumptions": assumed,
            "cluster": dataclasses.asdict(question.cluster),
            "predictions": [dataclasses.asdict(one) for one in predictions],
            "left_out": left_out,
            **provenance(),
        }
        json_output.write_json(json_path, flags.run, content, terminal)
    if plot_path:
        plot_efficiency(
            question, predictions, plot_path, speed=speed, measured=measured is not None
        )
        terminal.info(f"Drawn: {plot_path}")


def _check_plot(file: str) -> pathlib.Path:
    """The path of --plot; UserError if no picture can be written there."""
    path = pathlib.Path(file)
    if not path.absolute().parent.is_dir():
        raise UserError(f"{path} can't be written: there is no folder {path.parent}.")
    if path.suffix not in FORMATS:
        raise UserError(f"--plot={file} must end in {', '.join(FORMATS)}.")
    return path


def parse_question(flags: argparse.Namespace) -> Question:
    """The flags, checked."""
    layouts = flags.layouts.split(",")
    for layout in layouts:
        if layout not in traffic.LAYOUTS:
            raise UserError(f"There is no layout '{layout}': use {', '.join(traffic.LAYOUTS)}.")
    if flags.dtype not in WIDTHS:
        raise UserError(f"--dtype={flags.dtype} must be {' or '.join(WIDTHS)}.")
    try:
        devices = sorted({int(count) for count in flags.devices.split(",")})
    except ValueError:
        raise UserError(f"--devices={flags.devices} must be numbers like 1,2,4.") from None
    counts = {
        "devices_per_node": flags.devices_per_node,
        "batch_size": flags.batch_size,
        "steps": flags.steps,
    }
    if flags.global_batch_size is not None:
        counts["global_batch_size"] = flags.global_batch_size
    for name, count in {"devices": devices[0], **counts}.items():
        if count < 1:
            raise UserError(f"--{name} must be at least 1, not {count}.")
    cluster = Cluster(
        flags.devices_per_node, links.find_link(flags.inside), links.find_link(flags.between)
    )
    return Question(
        architecture=named(flags.network),
        layouts=layouts,
        devices=devices,
        cluster=cluster,
        dtype=flags.dtype,
        batch_size=flags.batch_size,
        global_batch_size=flags.global_batch_size,
    )


def predict_all(question: Question, images_per_second: float) -> tuple[list[Prediction], list[str]]:
    """Predictions by devices, then layout, and sentences on those that are impossible."""
    predictions: list[Prediction] = []
    reasons: dict[tuple[str, int], str] = {}
    for devices in question.devices:
        for layout in question.layouts:
            batch_size = question.global_batch_size or question.batch_size * devices
            try:
                predictions.append(
                    scaling.predict(
                        question.architecture,
                        question.architecture.num_classes,
                        layout,
                        devices=devices,
                        batch_size=batch_size,
                        images_per_second=images_per_second,
                        cluster=question.cluster,
                        width=WIDTHS[question.dtype],
                    )
                )
            except UserError as error:
                reasons[layout, devices] = str(error)
    if not predictions:
        raise UserError(next(iter(reasons.values())))
    return predictions, [
        f"Left out: {layout} on {devices:,}. {reason}"
        for (layout, devices), reason in reasons.items()
    ]


def assumptions(question: Question, images_per_second: float, measured: dict | None) -> list[str]:
    """What the numbers rest on, a line each."""
    cluster, name = question.cluster, question.architecture.name
    speed = f"{_number(images_per_second)} images/s of {name}'s training step in {question.dtype}"
    if measured:
        speed += f", measured on one device here: median of {len(measured['seconds'])} steps of "
        speed += f"{measured['batch']} images"
    else:
        speed += " on one device: given, not measured"
    if question.global_batch_size:
        images = (
            f"strong scaling: {question.global_batch_size:,} images a step, whatever the devices"
        )
    else:
        images = (
            f"weak scaling: {question.batch_size:,} images a step and device; a pair of towers "
            f"shares {2 * question.batch_size:,}"
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


def scaling_table(predictions: list[Prediction]) -> str:
    """A line for each layout on each number of devices."""
    lines = [
        f"{'':<33}{'MB sent by a device':>20}{'ms: exchanges, and a step':>35}{'efficiency':>18}",
        f"{'devices':>7}  {'layout':<8}{'images a step':>16}{'in node':>10}{'between':>10}"
        f"{'exchanges':>11}{'beside':>12}{'after':>12}{'beside':>10}{'after':>8}",
    ]
    for one in predictions:
        sent = f"{one.inside_bytes / 1e6:>10,.1f}{one.between_bytes / 1e6:>10,.1f}"
        times = "".join(f"{1e3 * one_time:>12,.2f}" for one_time in (one.beside, one.after))
        lines.append(
            f"{one.devices:>7,}  {one.layout:<8}{one.batch:>16,}{sent}{1e3 * one.exchanges:>11,.2f}"
            f"{times}{one.efficiency_beside:>10.1%}{one.efficiency_after:>8.1%}"
        )
    return "\n".join(lines)


def plot_efficiency(
    question: Question,
    predictions: list[Prediction],
    path: pathlib.Path,
    *,
    speed: float,
    measured: bool,
) -> None:
    """Efficiency against devices: a band for each layout between its two bounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.2))
    for layout in question.layouts:
        of_layout = [one for one in predictions if one.layout == layout]
        if not of_layout:
            continue
        devices, colour = [one.devices for one in of_layout], COLOURS[layout]
        beside = [100 * one.efficiency_beside for one in of_layout]
        after = [100 * one.efficiency_after for one in of_layout]
        axes.fill_between(devices, after, beside, color=colour, alpha=0.1, lw=0)
        axes.plot(devices, beside, "o-", color=colour, ms=4, label=layout)
        axes.plot(devices, after, "o--", color=colour, ms=3, lw=1)
    axes.plot([], [], "k-", label="gradients summed beside the backward pass")
    axes.plot([], [], "k--", lw=1, label="gradients summed after it")
    axes.set_xscale("log", base=2)
    axes.set_xticks(question.devices, [f"{count:,}" for count in question.devices])
    axes.minorticks_off()
    axes.set_ylim(0, 105)
    axes.set_xlabel("devices")
    axes.set_ylabel("efficiency, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    images = f"{question.global_batch_size or question.batch_size:,} images a "
    images += "step" if question.global_batch_size else "device"
    how = "measured" if measured else "given, not measured"
    cluster = question.cluster
    where = f"nodes of {cluster.devices_per_node}, {cluster.between.name} between"
    if cluster.devices_per_node > 1:
        where += f", {cluster.inside.name} inside"
    axes.set_title(
        f"{question.architecture.name}: predicted scaling, {images}, {question.dtype}\n"
        f"one device {_number(speed)} images/s ({how}); {where}",
        fontsize=11,
    )
    drawing.save_figure(figure, path)


def _number(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}"
