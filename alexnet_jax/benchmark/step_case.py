"""One network at one batch size: the real step, the machine's peak and PyTorch, turn by turn."""

import contextlib
import dataclasses
import time
from typing import Any

import jax

from alexnet_jax.benchmark import by_layer, flops, limits, machine_peak, step_time, turns
from alexnet_jax.benchmark.kernel_choices import (
    BFLOAT16_VELOCITY,
    FREELY_FUSED,
    KERNEL_CHOICES,
    TWO_STEPS,
)
from alexnet_jax.benchmark.machine_peak import COPY, PRODUCT
from alexnet_jax.benchmark.step_time import CompiledStep
from alexnet_jax.benchmark.torch_peer import LAYOUTS
from alexnet_jax.kernels import materialize
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import ProgressLine, Terminal

OURS = "jax"
EPOCHS, IMAGES = 90, 1_281_167  # of the paper's run and of ILSVRC-2012's training set
Numbers = dict[str, Any]  # for JSON


@dataclasses.dataclass(frozen=True)
class StepCase:
    """What is to be measured, `samples` of each contestant. `small_peak` is for trials only."""

    architecture: Architecture
    batch_size: int
    dtype: str
    samples: int
    against_torch: bool = False
    inference: bool = False
    by_layer: bool = False
    small_peak: bool = False
    torch_layouts: tuple[str, ...] = LAYOUTS
    kernels: tuple[str, ...] = ()  # names of kernel_choices.NAMES


def measure_case(case: StepCase, terminal: Terminal) -> Numbers:
    """All numbers of a case; UserError if PyTorch differs or can't be timed.

    Where PyTorch has no such network ours is measured alone, and `without_torch` says why.
    """
    architecture, batch_size = case.architecture, case.batch_size
    result: Numbers = {"network": architecture.name, "input_size": architecture.input_size,
                       "batch": batch_size, "dtype": case.dtype}  # fmt: skip
    torch_device = None
    if case.against_torch:
        torch_device = _check_torch(architecture, result, terminal)
    terminal.live(f"compiling the training step of {architecture.name}")
    compiled = step_time.compile_step(architecture, batch_size=batch_size, dtype=case.dtype)
    result["compile_seconds"] = compiled.compile_seconds
    result["memory"] = memory_of(compiled.step)
    num_classes = compiled.steps.num_classes
    operations = flops.training_flops(architecture, num_classes) * batch_size
    result["training"] = _compare(
        case,
        compiled,
        compiled,
        operations=operations,
        torch_device=torch_device,
        phase="training",
        terminal=terminal,
    )
    result["training"]["last_loss"] = float(compiled.loss)
    if case.kernels:
        result["kernels"] = _alternatives(case, compiled, terminal)
    speed = result["training"]["images_per_second"]
    result["hours_of_90_epochs"] = EPOCHS * IMAGES / speed / 3600
    if case.inference:
        seconds, forward = _forward_pass(compiled)
        operations = flops.forward_flops(architecture, num_classes) * batch_size
        result["inference"] = _compare(
            case,
            compiled,
            forward,
            operations=operations,
            torch_device=torch_device,
            phase="inference",
            terminal=terminal,
        ) | {"compile_seconds": seconds}
    if case.by_layer:
        result["by_layer"] = by_layer.measure_layers(compiled, case.small_peak, terminal)
    result["memory"] |= _device_peak()
    result["limits"] = limits.limits_sentence(result)
    return result


def _check_torch(architecture: Architecture, result: Numbers, terminal: Terminal) -> str | None:
    """PyTorch's device, after its network was shown to be this one; None if it has no such."""
    from alexnet_jax.benchmark import torch_contest, torch_peer

    try:
        torch_peer.check_has_peer(architecture)
    except UserError as error:
        result["without_torch"] = str(error)
        return None
    device = torch_contest.torch_device()
    terminal.live(f"comparing PyTorch's {architecture.name} with this one")
    result["torch_differs_by"] = torch_contest.check_equal(architecture, device)
    return device


def _compare(
    case: StepCase,
    compiled: CompiledStep,
    ours: turns.Contestant,
    *,
    operations: int,
    torch_device: str | None,
    phase: str,
    terminal: Terminal,
) -> Numbers:
    """Times of ours, of PyTorch's ways on its device, and of the peak, in turns."""
    contestants, peak_work = machine_peak.peak_contestants(case.dtype, case.small_peak)
    contestants = {OURS: ours} | contestants
    first_seconds: dict[str, float] = {}
    left_out: list[str] = []
    report = ProgressLine(f"{phase} of {case.batch_size} images, {case.dtype}", terminal, "turns")
    with contextlib.ExitStack() as stack:
        if torch_device:
            terminal.live(f"compiling the {phase} of PyTorch's {case.architecture.name}")
            contest = stack.enter_context(_torch_contest(case, compiled, phase, torch_device))
            contestants |= contest.contestants
            first_seconds, left_out = contest.first_seconds, contest.left_out
            if not contest.contestants:
                raise UserError(f"None of PyTorch's ways could be timed. {' '.join(left_out)}")
        seconds = turns.take_turns(contestants, case.samples, report)
    times = {name: turns.summarize_seconds(values) for name, values in seconds.items()}
    peak = {name: peak_work[name] / times.pop(name)["median"] for name in (PRODUCT, COPY)}
    our_times = times.pop(OURS)
    median = our_times["median"]
    result = our_times | {
        "images_per_second": case.batch_size / median,
        "operations": operations,
        "operations_per_second": operations / median,
        "peak": {"operations_per_second": peak[PRODUCT], "bytes_per_second": peak[COPY]},
        "share_of_peak": operations / median / peak[PRODUCT],
    }
    if torch_device:
        result["torch"] = {
            name: values
            | {
                "images_per_second": case.batch_size / values["median"],
                "first_seconds": first_seconds[name],
                "ratio": values["median"] / median,
            }
            for name, values in times.items()
        }
        result["torch_left_out"] = left_out
        best = min(result["torch"], key=lambda name: result["torch"][name]["median"])
        result["best_torch"], result["ratio"] = best, result["torch"][best]["ratio"]
        least = min(values["least"] for values in times.values())
        result["ratio_of_least"] = least / our_times["least"]
    return result


def _torch_contest(case: StepCase, compiled: CompiledStep, phase: str, device: str):
    """PyTorch's contestants, in a process that ends with the context."""
    from alexnet_jax.benchmark import torch_contest, torch_process

    entry = torch_contest.make_entry(
        compiled,
        dtype=case.dtype,
        device=device,
        layouts=case.torch_layouts,
        training=phase == "training",
    )
    return torch_process.contest_in_process(entry)


def _alternatives(case: StepCase, compiled: CompiledStep, terminal: Terminal) -> Numbers:
    """{name: times of a step, images/s, speed as a multiple of the usual step's beside it}."""
    contestants: dict[str, turns.Contestant] = {OURS: compiled}
    for name in case.kernels:
        terminal.live(f"compiling {name}")
        with materialize.fused_freely() if name == FREELY_FUSED else contextlib.nullcontext():
            other = step_time.compile_step(
                case.architecture,
                batch_size=case.batch_size,
                dtype=case.dtype,
                kernel_choice=KERNEL_CHOICES.get(name, "tuned"),
                velocity_dtype="bfloat16" if name == BFLOAT16_VELOCITY else None,
            )
        contestants[name] = step_time.two_at_once(other) if name == TWO_STEPS else other
    report = ProgressLine(f"alternatives at {case.batch_size} images", terminal, "turns")
    seconds = turns.take_turns(contestants, case.samples, report)
    if TWO_STEPS in seconds:
        seconds[TWO_STEPS] = [pair / 2 for pair in seconds[TWO_STEPS]]
    times = {name: turns.summarize_seconds(values) for name, values in seconds.items()}
    usual = times.pop(OURS)
    return {
        name: values
        | {
            "images_per_second": case.batch_size / values["median"],
            "speed": usual["median"] / values["median"],
            "speed_by_least": usual["least"] / values["least"],
        }
        for name, values in times.items()
    }


def _forward_pass(compiled: CompiledStep) -> tuple[float, turns.Contestant]:
    """(seconds of compilation, the center view through the network, with scores)."""
    began = time.perf_counter()
    parameters = compiled.state.parameters
    arguments = (parameters, compiled.images, compiled.labels, compiled.preprocessing)
    forward = compiled.steps.evaluation("center").lower(*arguments).compile()
    return time.perf_counter() - began, machine_peak.repeat(forward, *arguments)


def memory_of(program) -> dict[str, int]:
    """Bytes of a compiled program's arguments, results and temporaries, where XLA counts them."""
    analysis = program.memory_analysis()
    names = ("argument", "output", "alias", "temp")
    return {name: getattr(analysis, f"{name}_size_in_bytes", 0) for name in names}


def _device_peak() -> dict[str, int]:
    """The most bytes that the device has held, where it counts them."""
    stats = jax.devices()[0].memory_stats() or {}
    return {"device_peak": stats["peak_bytes_in_use"]} if "peak_bytes_in_use" in stats else {}
