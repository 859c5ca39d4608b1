"""One network at one batch: the real step, the machine's peak and PyTorch, turn by turn."""

import contextlib
import dataclasses
import time

import jax

from alexnet_jax.benchmark import by_layer, limits, machine_peak, step_time, turns, work
from alexnet_jax.benchmark.kernel_choices import (
    BFLOAT16_VELOCITY,
    FREELY_FUSED,
    KERNEL_CHOICES,
    TWO_STEPS,
)
from alexnet_jax.benchmark.machine_peak import COPY, PRODUCT
from alexnet_jax.benchmark.step_time import Ready
from alexnet_jax.benchmark.torch_peer import LAYOUTS
from alexnet_jax.kernels import materialize
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import ProgressLine, Terminal

OURS = "jax"
EPOCHS, IMAGES = 90, 1_281_167  # of the paper's run and of ILSVRC-2012's training set


@dataclasses.dataclass(frozen=True)
class Question:
    """What is to be measured; `samples` of each contestant. `small_peak` is for trials only."""

    architecture: Architecture
    batch: int
    dtype: str
    samples: int
    against_torch: bool = False
    inference: bool = False
    by_layer: bool = False
    small_peak: bool = False
    torch_layouts: tuple[str, ...] = LAYOUTS
    kernels: tuple[str, ...] = ()  # names of kernel_choices.NAMES


def measure(asked: Question, terminal: Terminal) -> dict:
    """All numbers of a case for JSON; UserError if PyTorch differs or can't be timed.

    Where PyTorch has no such network ours is measured alone, and `without_torch` says why.
    """
    architecture = asked.architecture
    found = {"network": architecture.name, "input_size": architecture.input_size,
             "batch": asked.batch, "dtype": asked.dtype}  # fmt: skip
    where = None
    if asked.against_torch:
        where = _proved(architecture, found, terminal)
    terminal.live(f"compiling the training step of {architecture.name}")
    ready = step_time.ready(architecture, asked.batch, asked.dtype)
    found["compile_seconds"], found["memory"] = ready.compile_seconds, memory(ready.step)
    operations = work.training_operations(architecture, ready.steps.num_classes) * asked.batch
    found["training"] = _compared(asked, ready, ready, operations, where, "training", terminal)
    found["training"]["last_loss"] = float(ready.loss)
    if asked.kernels:
        found["kernels"] = _alternatives(asked, ready, terminal)
    speed = found["training"]["images_per_second"]
    found["hours_of_90_epochs"] = EPOCHS * IMAGES / speed / 3600
    if asked.inference:
        seconds, forward = _forward_pass(ready)
        operations = work.forward_operations(architecture, ready.steps.num_classes) * asked.batch
        found["inference"] = _compared(
            asked, ready, forward, operations, where, "inference", terminal
        ) | {"compile_seconds": seconds}
    if asked.by_layer:
        found["by_layer"] = by_layer.measure(ready, asked.small_peak, terminal)
    found["memory"] |= _of_device()
    found["limits"] = limits.sentence(found)
    return found


def _proved(architecture: Architecture, found: dict, terminal: Terminal) -> str | None:
    """PyTorch's device, after its network was shown to be this one; None if it has no such."""
    from alexnet_jax.benchmark import torch_contest, torch_peer

    try:
        torch_peer.check(architecture)
    except UserError as error:
        found["without_torch"] = str(error)
        return None
    where = torch_contest.device()
    terminal.live(f"comparing PyTorch's {architecture.name} with this one")
    found["torch_differs_by"] = torch_contest.prove(architecture, where)
    return where


def _compared(
    asked: Question,
    ready: Ready,
    ours: turns.Contestant,
    operations: int,
    where: str | None,
    phase: str,
    terminal: Terminal,
) -> dict:
    """Times of ours, of PyTorch's ways on the device `where`, and of the peak, in turns."""
    contestants, peak_work = machine_peak.contestants(asked.dtype, asked.small_peak)
    contestants = {OURS: ours} | contestants
    first_seconds, left_out = {}, []
    report = ProgressLine(f"{phase} of {asked.batch} images, {asked.dtype}", terminal, "turns")
    with contextlib.ExitStack() as stack:
        if where:
            terminal.live(f"compiling the {phase} of PyTorch's {asked.architecture.name}")
            contest = stack.enter_context(_peer(asked, ready, phase, where))
            contestants |= contest.contestants
            first_seconds, left_out = contest.first_seconds, contest.left_out
            if not contest.contestants:
                raise UserError(f"None of PyTorch's ways could be timed. {' '.join(left_out)}")
        seconds = turns.alternate(contestants, asked.samples, report)
    times = {name: turns.spread(values) for name, values in seconds.items()}
    peak = {name: peak_work[name] / times.pop(name)["median"] for name in (PRODUCT, COPY)}
    own = times.pop(OURS)
    result = own | {
        "images_per_second": asked.batch / own["median"],
        "operations": operations,
        "operations_per_second": operations / own["median"],
        "peak": {"operations_per_second": peak[PRODUCT], "bytes_per_second": peak[COPY]},
        "share_of_peak": operations / own["median"] / peak[PRODUCT],
    }
    if where:
        result["torch"] = {
            name: values
            | {
                "images_per_second": asked.batch / values["median"],
                "first_seconds": first_seconds[name],
                "ratio": values["median"] / own["median"],
            }
            for name, values in times.items()
        }
        result["torch_left_out"] = left_out
        best = min(result["torch"], key=lambda name: result["torch"][name]["median"])
        result["best_torch"], result["ratio"] = best, result["torch"][best]["ratio"]
        result["ratio_of_least"] = min(row["least"] for row in times.values()) / own["least"]
    return result


def _peer(asked: Question, ready: Ready, phase: str, where: str):
    """PyTorch's contestants, in a process that ends with the context."""
    from alexnet_jax.benchmark import torch_contest, torch_process

    entry = torch_contest.entry(
        asked.architecture, ready, asked.dtype, where, asked.torch_layouts, phase == "training"
    )
    return torch_process.contest(entry)


def _alternatives(asked: Question, ready: Ready, terminal: Terminal) -> dict:
    """{name: times of a step, images/s, speed as a multiple of the usual step's beside it}."""
    contestants = {OURS: ready}
    for name in asked.kernels:
        terminal.live(f"compiling {name}")
        velocity_dtype = "bfloat16" if name == BFLOAT16_VELOCITY else None
        with materialize.fused_freely() if name == FREELY_FUSED else contextlib.nullcontext():
            other = step_time.ready(
                asked.architecture, asked.batch, asked.dtype,
                kernel_choice=KERNEL_CHOICES.get(name, "tuned"), velocity_dtype=velocity_dtype,
            )  # fmt: skip
        contestants[name] = step_time.in_twos(other) if name == TWO_STEPS else other
    report = ProgressLine(f"alternatives at {asked.batch} images", terminal, "turns")
    seconds = turns.alternate(contestants, asked.samples, report)
    if TWO_STEPS in seconds:
        seconds[TWO_STEPS] = [pair / 2 for pair in seconds[TWO_STEPS]]
    times = {name: turns.spread(values) for name, values in seconds.items()}
    usual = times.pop(OURS)
    return {
        name: row
        | {
            "images_per_second": asked.batch / row["median"],
            "speed": usual["median"] / row["median"],
            "speed_by_least": usual["least"] / row["least"],
        }
        for name, row in times.items()
    }


def _forward_pass(ready: Ready) -> tuple[float, turns.Contestant]:
    """(seconds of compilation, the centre view through the network, with scores)."""
    began = time.perf_counter()
    arguments = (ready.state.parameters, ready.images, ready.labels, ready.preprocessing)
    forward = ready.steps.evaluation("center").lower(*arguments).compile()
    return time.perf_counter() - began, machine_peak.repeated(forward, *arguments)


def memory(compiled) -> dict:
    """Bytes of the compiled step's arguments, results and temporaries, where XLA tells them."""
    analysis = compiled.memory_analysis()
    names = ("argument", "output", "alias", "temp")
    return {name: getattr(analysis, f"{name}_size_in_bytes", 0) for name in names}


def _of_device() -> dict:
    """What the device has held at most, where it counts that."""
    counted = jax.devices()[0].memory_stats() or {}
    return {"device_peak": counted["peak_bytes_in_use"]} if "peak_bytes_in_use" in counted else {}
