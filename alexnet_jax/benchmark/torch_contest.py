"""PyTorch's ways to take the same step, shown to be equal before they are timed."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alexnet_jax import kernels
from alexnet_jax.benchmark import torch_peer
from alexnet_jax.benchmark.step_time import CompiledStep
from alexnet_jax.benchmark.turns import Contestant
from alexnet_jax.model import alexnet
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.optional_imports import require_package
from alexnet_jax.weights import standard

COMPARED_IMAGES = 2
TOLERANCE = 1e-4  # of float32 logits and loss, relative


@dataclasses.dataclass(frozen=True)
class Entry:
    """What PyTorch's contestants are made of, for any process: weights and a batch on the host."""

    architecture: Architecture
    weights: standard.StandardWeights
    images: np.ndarray
    labels: np.ndarray
    dtype: str
    device: str
    layouts: tuple[str, ...]
    training: bool


@dataclasses.dataclass
class Contest:
    """Contestants by name, seconds of their first steps (compilation), and what can't be timed."""

    contestants: dict[str, Contestant]
    first_seconds: dict[str, float]
    left_out: list[str]


def torch_device() -> str:
    """PyTorch's name of the kind of device that jax computes on; UserError if it has none."""
    with require_package("torch", "The comparison with PyTorch"):
        import torch
    if jax.default_backend() == "cpu":
        return "cpu"
    if jax.default_backend() == "gpu" and torch.cuda.is_available():
        return "cuda"
    raise UserError(
        f"jax computes on {jax.devices()[0].device_kind}, which the installed PyTorch "
        f"{torch.__version__} can't use: leave out --against=torch."
    )


def configure_torch(device: str) -> dict[str, Any]:
    """Give PyTorch all cores and, on a GPU, what jax has by default; returns what was set."""
    import torch

    if hasattr(os, "sched_getaffinity"):  # where it is missing PyTorch's own choice stands
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    settings: dict[str, Any] = {
        "version": torch.__version__,
        "device": device,
        "threads": torch.get_num_threads(),
    }
    if device == "cuda":  # jax multiplies float32 in TF32 there, and tries cuDNN's algorithms
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        cudnn = torch.backends.cudnn.version()
        settings |= {"cuda": torch.version.cuda, "cudnn": cudnn, "tf32": True}
    return settings


def check_equal(architecture: Architecture, device: str) -> dict[str, float]:
    """Largest relative differences of logits and loss, same weights and images, full float32.

    UserError if PyTorch's network is not this one: then times would say nothing.
    """
    num_classes, random = architecture.num_classes, np.random.default_rng(0)
    parameters = _large_parameters(architecture, random)
    side = architecture.input_size
    images = random.normal(size=(COMPARED_IMAGES, side, side, architecture.channels))
    images = images.astype(np.float32)
    labels = random.integers(0, num_classes, COMPARED_IMAGES).astype(np.int32)
    operations = kernels.select("tuned", jax.default_backend())
    graph = alexnet.graph_of(architecture, num_classes, operations=operations)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(lambda p, x: alexnet.apply(graph, p, x))(parameters, images)
    weights = standard.to_standard(architecture, parameters)
    with _full_precision():
        peer = torch_peer.make_peer(architecture, weights, "NCHW", device)
        pixels, _ = peer.put(images, labels)
        theirs = torch_peer.forward_pass(peer, pixels, "float32")().cpu().numpy()
    differences = {"logits": _relative(np.asarray(ours), theirs)}
    losses = [
        np.asarray(optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), labels))
        for logits in (ours, theirs)
    ]
    differences["loss"] = _relative(*losses)
    if not max(differences.values()) < TOLERANCE:
        raise UserError(
            f"PyTorch's {architecture.name} is not timed, since its logits differ by "
            f"{differences['logits']:.1g} and its loss by {differences['loss']:.1g}: expected less "
            f"than {TOLERANCE:g}. This is an error of the benchmark."
        )
    return differences


def make_entry(
    compiled: CompiledStep, *, dtype: str, device: str, layouts: tuple[str, ...], training: bool
) -> Entry:
    """Steps or forward passes with the parameters of `compiled` and its images, in each layout."""
    architecture = compiled.steps.architecture
    crops = compiled.steps.augmented()(np.int32(0), compiled.images, compiled.preprocessing)
    return Entry(
        architecture=architecture,
        weights=standard.to_standard(architecture, jax.device_get(compiled.state.parameters)),
        images=np.asarray(crops),
        labels=np.asarray(compiled.labels),
        dtype=dtype,
        device=device,
        layouts=layouts,
        training=training,
    )


def make_contest(entry: Entry) -> Contest:
    """Make and try each way, eager and compiled."""
    import torch

    contest = Contest({}, {}, [])
    for layout in entry.layouts:
        peer = torch_peer.make_peer(entry.architecture, entry.weights, layout, entry.device)
        images, labels = peer.put(entry.images, entry.labels)
        ways: dict[str, Callable[[Callable], Callable]] = {
            "eager": lambda function: function,
            "compile": lambda function: torch.compile(function, dynamic=False),
        }
        for way, compiled in ways.items():
            name = f"torch {way}, {layout}"
            began = time.perf_counter()
            try:
                if entry.training:
                    step = torch_peer.training_step(peer, images, labels, entry.dtype, compiled)
                else:
                    step = torch_peer.forward_pass(peer, images, entry.dtype, compiled)
                contestant = _wait_for(step, entry.device)
                contestant(1)
            except Exception as error:  # no compiler, no memory: the others can be timed
                contest.left_out.append(f"Not measured: {name} ({_first_line(error)})")
                continue
            contest.first_seconds[name] = time.perf_counter() - began
            contest.contestants[name] = contestant
    return contest


def _wait_for(step: Callable, device: str) -> Contestant:
    """Repeats a step, then waits for its result on the host."""
    import torch

    def work(repetitions: int) -> None:
        for _ in range(repetitions):
            step()
        if device == "cuda":
            torch.cuda.synchronize()

    return work


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    import torch

    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _large_parameters(architecture: Architecture, random: np.random.Generator) -> dict:
    """Weights so large that every layer matters; those that training begins with are too small."""
    return {
        layer: {
            kind: random.normal(
                scale=0.3 if kind == "bias" else (2 / np.prod(shape[1:-1])) ** 0.5, size=shape
            ).astype(np.float32)
            for kind, shape in kinds.items()
        }
        for layer, kinds in architecture.parameter_shapes(architecture.num_classes).items()
    }


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
