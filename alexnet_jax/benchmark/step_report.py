"""The page of step as text: ratios first, then speeds, then where the time goes."""

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


def case(found: dict) -> str:
    """One network at one batch."""
    lines = [f"{found['network']}, batch {found['batch']}, {found['dtype']}"]
    if "torch_differs_by" in found:
        off = found["torch_differs_by"]
        lines.append(
            f"PyTorch's network is this one: logits differ by {off['logits']:.1g}, loss by "
            f"{off['loss']:.1g} (float32, relative)."
        )
    lines += [found["without_torch"]] if "without_torch" in found else []
    for phase in ("training", "inference"):
        if phase in found:
            lines += ["", *_phase(phase, found[phase])]
    held = found["memory"]
    total = held["argument"] + held["output"] - held["alias"] + held["temp"]
    lines += [
        "",
        f"Compiled in {found['compile_seconds']:.1f} s. Memory of a training step "
        f"{total / 2**30:.2f} GiB, {held['temp'] / 2**30:.2f} of it temporary.",
    ]
    if found["input_size"] > SMALL_IMAGES:
        hours = found["hours_of_90_epochs"]
        lines.append(f"90 epochs of ILSVRC-2012 at this speed would take {hours:,.1f} hours.")
    if "device_peak" in held:
        lines.append(f"The device held {held['device_peak'] / 2**30:.2f} GiB at most.")
    if not math.isfinite(found["training"]["last_loss"]):
        lines.append(
            "Training diverged while it was timed, so the times may be others than a run's."
        )
    if "kernels" in found:
        lines += ["", kernels(found["kernels"])]
    if "by_layer" in found:
        lines += ["", by_layer(found["by_layer"])]
    lines += ["", found["limits"]]
    return "\n".join(lines)


def _phase(phase: str, found: dict) -> list[str]:
    lines = []
    if "ratio" in found:
        lines.append(
            f"{phase}: {found['ratio']:.2f} times the images/s of the best PyTorch here "
            f"({found['best_torch']}); by the least times {found['ratio_of_least']:.2f}"
        )
    what = {
        "training": "augmentation, forward, backward and update; PyTorch's images are cropped",
        "inference": "centre view, forward and scores; PyTorch's is the forward pass",
    }[phase]
    lines += [
        f"jax: {what}",
        f"{phase:<30}{'images/s':>10}{'ms':>11}{'least':>11}{'quartiles':>22}"
        + (f"{'jax against it':>16}" if "ratio" in found else ""),
    ]
    for name, row in ({"jax": found} | found.get("torch", {})).items():
        low, high = row["quartiles"]
        lines.append(
            f"{name:<30}{row['images_per_second']:>10,.1f}{1e3 * row['median']:>11,.2f}"
            f"{1e3 * row['least']:>11,.2f}{f'{1e3 * low:,.2f} {1e3 * high:,.2f}':>22}"
            + (f"{row['ratio']:>16.2f}" if name != "jax" else "")
        )
    lines += found.get("torch_left_out", [])
    peak = found["peak"]
    lines.append(
        f"{found['operations_per_second'] / GIGA:,.0f} GFLOP/s in products, "
        f"{found['share_of_peak']:.0%} of the {peak['operations_per_second'] / GIGA:,.0f} that a "
        f"large product reached beside it; a copy reached {peak['bytes_per_second'] / GIGA:,.0f} "
        "GB/s"
    )
    return lines


def kernels(found: dict) -> str:
    """A line for each alternative, against the usual step in the same turns."""
    lines = [f"{'with other kernels':<30}{'speed':>8}{'by least':>10}{'images/s':>10}"]
    for name, row in found.items():
        lines.append(
            f"{name:<30}{row['speed']:>8.2f}{row['speed_by_least']:>10.2f}"
            f"{row['images_per_second']:>10,.1f}"
        )
    return "\n".join(lines)


def by_layer(found: dict) -> str:
    """The parts that matter in the order of a step, and their sum against the whole step."""
    total = found["sum_seconds"]
    lines = [f"{'each part alone':<32}{'ms':>9}{'of sum':>8}{'GFLOP/s':>10}{'GB/s':>8}  of peak"]
    small = []
    for part in found["parts"]:
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
        f"{1e3 * found['step_seconds']:,.2f}\nParts measured alone don't add up exactly: XLA fuses "
        "neighbours, and starting a part takes longer than the shortest ones."
    )
    return "\n".join(lines)


def table(cases: list[dict]) -> str:
    """A row for each case."""
    lines = [
        f"{'network':<16}{'batch':>6}{'images/s':>12}{'of peak':>9}{'best PyTorch':>14}"
        f"{'ratio':>7}  its way"
    ]
    for found in cases:
        own = found["training"]
        row = f"{found['network']:<16}{found['batch']:>6}{own['images_per_second']:>12,.1f}"
        row += f"{own['share_of_peak']:>9.0%}"
        if "ratio" in own:
            best = own["torch"][own["best_torch"]]
            row += f"{best['images_per_second']:>14,.1f}{own['ratio']:>7.2f}  {own['best_torch']}"
        lines.append(row)
    return "\n".join(lines)
