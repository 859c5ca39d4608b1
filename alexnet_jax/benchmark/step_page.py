"""The page of step: measure networks and batches one after the other, print tables, write JSON."""

import argparse
import json
import os
import pathlib

from alexnet_jax.benchmark import step_case, step_report
from alexnet_jax.benchmark.kernel_choices import parse_names
from alexnet_jax.benchmark.torch_peer import LAYOUTS
from alexnet_jax.model.networks import NETWORKS, named
from alexnet_jax.runtime import malloc
from alexnet_jax.runtime.errors import UserError, check_choice
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.runtime.terminal import Terminal

DTYPES = ("float32", "bfloat16")


def run(given: argparse.Namespace, terminal: Terminal) -> None:
    """Answer the flags of the page; UserError for those that make no sense."""
    asked = questions(given)
    path = pathlib.Path(given.json) if given.json else None
    if path and not path.absolute().parent.is_dir():
        raise UserError(f"{path} can't be written: there is no folder {path.parent}.")
    content = {"page": "step", "cases": [], "left_out": [], **provenance()}
    content["load_at_start"] = os.getloadavg()[0]
    content["memory"] = os.environ.get(malloc.VARIABLE, "")
    if given.against:
        from alexnet_jax.benchmark import torch_contest

        content["torch"] = torch_contest.configure(torch_contest.device())
    terminal.info(step_report.heading(content))
    for question in asked:
        try:
            found = step_case.measure(question, terminal)
        except UserError as error:
            if len(asked) == 1:
                raise
            content["left_out"].append(str(error))
            terminal.info(str(error))
            continue
        content["cases"].append(found)
        terminal.info("\n" + step_report.case(found))
        if path:  # after each, so that a cut-off command leaves what it has
            write(path, content)
    if len(asked) > 1:
        terminal.info("\n" + step_report.table(content["cases"]))
    if path:
        write(path, content)
        terminal.info(f"In {path}: all numbers.")


def questions(given: argparse.Namespace) -> list[step_case.Question]:
    """The flags, checked: a question for each network and batch."""
    try:
        batches = [int(batch) for batch in given.batch.split(",")]
    except ValueError:
        raise UserError(f"--batch={given.batch} must be numbers like 128,512.") from None
    check_choice("--dtype", given.dtype, DTYPES)
    check_choice("--against", given.against or "torch", ("torch",))
    if min(*batches, given.steps) < 1 or given.width <= 0:
        raise UserError("--batch and --steps must be at least 1, and --width above 0.")
    layouts = tuple(given.torch_layouts.split(",")) if given.torch_layouts else LAYOUTS
    for layout in layouts:
        check_choice("--torch_layouts", layout, LAYOUTS)
    several = given.network == "all"
    networks = list(NETWORKS.values()) if several else map(named, given.network.split(","))
    return [
        step_case.Question(
            network if given.width == 1 else network.with_width(given.width),
            batch,
            given.dtype,
            given.steps,
            against_torch=given.against == "torch",
            inference=given.inference,
            by_layer=given.by_layer and not several,
            small_peak=given.width < 1,
            torch_layouts=layouts,
            kernels=parse_names(given.kernels or ""),
        )
        for network in networks
        for batch in batches
    ]


def write(path: pathlib.Path, content: dict) -> None:
    """All numbers as JSON; UserError if the file can't be written."""
    try:
        path.write_text(json.dumps(content, indent=1))
    except OSError as error:
        raise UserError(f"--json={path} can't be written ({error.strerror}).") from error
