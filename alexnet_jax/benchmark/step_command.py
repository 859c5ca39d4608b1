"""The command `benchmark step`: networks and batch sizes one after the other, tables, JSON."""

import argparse
import os

from alexnet_jax.benchmark import json_output, step_case, step_report
from alexnet_jax.benchmark.kernel_choices import parse_names
from alexnet_jax.benchmark.torch_peer import LAYOUTS
from alexnet_jax.model.networks import NETWORKS, named
from alexnet_jax.runtime import malloc
from alexnet_jax.runtime.errors import UserError, check_choice
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.runtime.run_records import write_record
from alexnet_jax.runtime.terminal import Terminal

DTYPES = ("float32", "bfloat16")


def run_step(flags: argparse.Namespace, terminal: Terminal) -> None:
    """Measure what the flags name, print and write; UserError for flags that make no sense."""
    cases = parse_cases(flags)
    path = json_output.check_json(flags.json) if flags.json else None
    content = {"benchmark": "step", "cases": [], "left_out": [], **provenance()}
    content["load_at_start"] = os.getloadavg()[0]
    content["memory"] = os.environ.get(malloc.VARIABLE, "")
    if flags.against:
        from alexnet_jax.benchmark import torch_contest

        content["torch"] = torch_contest.configure_torch(torch_contest.torch_device())
    terminal.info(step_report.heading(content))
    for case in cases:
        try:
            result = step_case.measure_case(case, terminal)
        except UserError as error:
            if len(cases) == 1:
                raise
            content["left_out"].append(str(error))
            terminal.info(str(error))
            continue
        content["cases"].append(result)
        terminal.info("\n" + step_report.case_text(result))
        if path:  # after each, so that a command that is stopped leaves what it has
            write_record(path, flags.run, content)
    if len(cases) > 1:
        terminal.info("\n" + step_report.cases_table(content["cases"]))
    if path:
        json_output.write_json(path, flags.run, content, terminal)


def parse_cases(flags: argparse.Namespace) -> list[step_case.StepCase]:
    """The flags, checked: a case for each network and batch size."""
    try:
        batch_sizes = [int(batch_size) for batch_size in flags.batch_size.split(",")]
    except ValueError:
        raise UserError(f"--batch_size={flags.batch_size} must be numbers like 128,512.") from None
    check_choice("--dtype", flags.dtype, DTYPES)
    check_choice("--against", flags.against or "torch", ("torch",))
    if min(*batch_sizes, flags.steps) < 1 or flags.width <= 0:
        raise UserError("--batch_size and --steps must be at least 1, and --width above 0.")
    layouts = tuple(flags.torch_layouts.split(",")) if flags.torch_layouts else LAYOUTS
    for layout in layouts:
        check_choice("--torch_layouts", layout, LAYOUTS)
    all_networks = flags.network == "all"
    networks = NETWORKS.values() if all_networks else map(named, flags.network.split(","))
    return [
        step_case.StepCase(
            network if flags.width == 1 else network.with_width(flags.width),
            batch_size,
            flags.dtype,
            flags.steps,
            against_torch=flags.against == "torch",
            inference=flags.inference,
            by_layer=flags.by_layer and not all_networks,
            small_peak=flags.width < 1,
            torch_layouts=layouts,
            kernels=parse_names(flags.kernels or ""),
        )
        for network in networks
        for batch_size in batch_sizes
    ]
