"""What `benchmark step` prints: ratios first, then speeds, then where the time goes."""

import math

GIGA = 1e9
BUSY = 0.25  # load a core
SMALL_IMAGES = 64  # pixels; such networks do not train on ILSVRC-2012
SMALL = 0.005  # share of the sum below which a part gets no line


def heading(content: dict) -> str:
    """Hardware and versions, a line."""
    hardware, versions = content["hardware"], content["versions"]
    text = f"{hardware['devices']}, {hardware['processor']}, {hardware['cores']} cores; "
    text += f"jax {versions['jax']}, jaxlib {versions['jaxlib']}"
    if "torch" in content:
        torch = content["torch"]
        text += f", torch {torch['version']} on {torch['device']}, {torch['threads']} threads"
    load = content["load_at_start"]
    if load > BUSY * hardware["cores"]:
        text += (
            f"\nwarning: other work kept this machine busy (load {load:.1f} on {hardware['cores']} "
            "cores): measure again on a quiet one."
        )
        if "torch" in content:
            text += (
                " PyTorch's threads on a CPU wait for each other and lose more by that than XLA's: "
                "the ratios flatter jax."
            )
    return text


def case_text(result: dict) -> str:
    """One network at one batch."""
    lines = [f"{result['network']}, batch {result['batch']}, {result['dtype']}"]
    if "torch_differs_by" in result:
        off = result["torch_differs_by"]
        lines.append(
            f"PyTorch's network is this one: logits differ by {off['logits']:.1g}, loss by "
            f"{off['loss']:.1g} (float32, relative)."
        )
    lines += [result["without_torch"]] if "without_torch" in result else []
    for phase in ("training", "inference"):
        if phase in result:
            lines += ["", *_phase(phase, result[phase])]
    memory = result["memory"]
    total = memory["argument"] + memory["output"] - memory["alias"] + memory["temp"]
    lines += [
        "",
        f"Compiled in {result['compile_seconds']:.1f} s. Memory of a training step "
        f"{total / 2**30:.2f} GiB, {memory['temp'] / 2**30:.2f} of it temporary.",
    ]
    if result["input_size"] > SMALL_IMAGES:
        hours = result["hours_of_90_epochs"]
        lines.append(f"90 epochs of ILSVRC-2012 at this speed would take {hours:,.1f} hours.")
    if "device_peak" in memory:
        lines.append(f"The device held {memory['device_peak'] / 2**30:.2f} GiB at most.")
    if not math.isfinite(result["training"]["last_loss"]):
        lines.append(
            "Training diverged while it was timed, so the times may be others than a run's."
        )
    if "kernels" in result:
        lines += ["", alternatives_table(result["kernels"])]
    if "by_layer" in result:
        lines += ["", layers_table(result["by_layer"])]
    lines += ["", result["limits"]]
    return "\n".join(lines)


def _phase(phase: str, result: dict) -> list[str]:
    lines = []
    if "ratio" in result:
        lines.append(
            f"{phase}: {result['ratio']:.2f} times the images/s of the best PyTorch here "
            f"({result['best_torch']}); by the least times {result['ratio_of_least']:.2f}"
        )
    what = {
        "training": "augmentation, forward, backward and update; PyTorch's images are cropped",
        "inference": "center view, forward and scores; PyTorch's is the forward pass",
    }[phase]
    lines += [
        f"jax: {what}",
        f"{phase:<30}{'images/s':>10}{'ms':>11}{'least':>11}{'quartiles':>22}"
        + (f"{'jax against it':>16}" if "ratio" in result else ""),
    ]
    for name, row in ({"jax": result} | result.get("torch", {})).items():
        low, high = row["quartiles"]
        lines.append(
            f"{name:<30}{row['images_per_second']:>10,.1f}{1e3 * row['median']:>11,.2f}"
            f"{1e3 * row['least']:>11,.2f}{f'{1e3 * low:,.2f} {1e3 * high:,.2f}':>22}"
            + (f"{row['ratio']:>16.2f}" if name != "jax" else "")
        )
    lines += result.get("torch_left_out", [])
    peak = result["peak"]
    lines.append(
        f"{result['operations_per_second'] / GIGA:,.0f} GFLOP/s in products, "
        f"{result['share_of_peak']:.0%} of the {peak['operations_per_second'] / GIGA:,.0f} that a "
        f"large product reached beside it; a copy reached {peak['bytes_per_second'] / GIGA:,.0f} "
        "GB/s"
    )
    return lines


def alternatives_table(alternatives: dict) -> str:
    """A line for each alternative, against the usual step in the same turns."""
    lines = [f"{'with other kernels':<30}{'speed':>8}{'by least':>10}{'images/s':>10}"]
    for name, row in alternatives.items():
        lines.append(
            f"{name:<30}{row['speed']:>8.2f}{row['speed_by_least']:>10.2f}"
            f"{row['images_per_second']:>10,.1f}"
        )
    return "\n".join(lines)


def layers_table(layers: dict) -> str:
    """The parts that matter in the order of a step, and their sum against the whole step."""
    total = layers["sum_seconds"]
    lines = [f"{'each part alone':<32}{'ms':>9}{'of sum':>8}{'GFLOP/s':>10}{'GB/s':>8}  of peak"]
    small = []
    for part in layers["parts"]:
        if part["seconds"] < SMALL * total:
            small.append(part["seconds"])
            continue
        rate = part["operations"] / part["seconds"] / GIGA
        lines.append(
            f"{part['part']:<32}{1e3 * part['seconds']:>9,.2f}{part['seconds'] / total:>8.1%}"
            f"{f'{rate:,.0f}' if rate else '':>10}{part['bytes'] / part['seconds'] / GIGA:>8,.1f}"
            f"{part['share']:>5.0%} of a {part['of']}"
        )
    if small:
        lines.append(
            f"{f'{len(small)} parts below {SMALL:.1%}':<32}{1e3 * sum(small):>9,.2f}"
            f"{sum(small) / total:>8.1%}"
        )
    lines.append(
        f"{'sum':<32}{1e3 * total:>9,.2f}  the whole step beside them took "
        f"{1e3 * layers['step_seconds']:,.2f}\nParts measured alone don't add up exactly: XLA "
        "fuses neighbours, and starting a part takes longer than the shortest ones."
    )
    return "\n".join(lines)


def cases_table(cases: list[dict]) -> str:
    """A line for each case."""
    lines = [
        f"{'network':<16}{'batch':>6}{'images/s':>12}{'of peak':>9}{'best PyTorch':>14}"
        f"{'ratio':>7}  its way"
    ]
    for result in cases:
        training = result["training"]
        row = f"{result['network']:<16}{result['batch']:>6}{training['images_per_second']:>12,.1f}"
        row += f"{training['share_of_peak']:>9.0%}"
        if "ratio" in training:
            way = training["best_torch"]
            speed = training["torch"][way]["images_per_second"]
            row += f"{speed:>14,.1f}{training['ratio']:>7.2f}  {way}"
        lines.append(row)
    return "\n".join(lines)
