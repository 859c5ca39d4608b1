"""The command `benchmark gpu`: many cases of `benchmark step`, each in a process of its own.

So one that runs out of memory or time takes no other with it, and XLA's flags can differ. Each
writes its line of the file as soon as it is done; a case that has a line is not measured again.
"""

import dataclasses
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

from alexnet_jax.benchmark import json_output
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.run_records import read_records, write_record

BATCH_SIZES, TINY_BATCH_SIZES = (512, 128, 1024, 2048), (2,)
DTYPES = ("bfloat16", "float32")
# One device exchanges nothing, so latency hiding can only reorder what it computes and copies.
XLA_FLAGS = {
    "latency_hiding": "--xla_gpu_enable_latency_hiding_scheduler=true",
    "no_command_buffers": "--xla_gpu_enable_command_buffer=",
}
SHORTEST = 20.0  # seconds; with less left no case is begun
SUMMARY = "summary"  # name of its line


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of `benchmark step`: its flags, without --json, and more of XLA's flags."""

    name: str
    words: tuple[str, ...]
    xla_flags: str = ""


# Those that differ from the usual step on a GPU.
ALTERNATIVES = (
    "strided_windows", "automatic_gradients", "bfloat16_velocity", "two_steps", "banded_norms",
    "separate_towers", "batched_towers",
)  # fmt: skip


def gpu_cases(tiny: bool, torch: bool) -> list[Case]:
    """The most important first: one batch size in all ways, its alternatives, then all others.

    PyTorch takes half a minute to compile a network, so that at other batch sizes it has one
    layout only, which was the faster one on an H200 at 512 images.
    """
    batch_sizes, dtypes = (TINY_BATCH_SIZES, DTYPES[:1]) if tiny else (BATCH_SIZES, DTYPES)
    common = ("--network=lenet5_28", "--width=0.5", "--steps=1") if tiny else ("--steps=20",)

    def case(dtype: str, batch_size: int, name: str = "", *more: str, flags: str = "") -> Case:
        words = (*common, f"--dtype={dtype}", f"--batch_size={batch_size}", *more)
        if "--by_layer" not in more:
            words += ("--noby_layer",)
        return Case(f"{dtype}-{batch_size}{name and '-'}{name}", words, flags)

    first, half = batch_sizes[0], dtypes[0]

    def against_torch(dtype: str, batch_size: int) -> Case:
        layouts = () if batch_size == first else ("--torch_layouts=channels_last",)
        return case(dtype, batch_size, "", *(("--against=torch", *layouts) if torch else ()))

    return [
        against_torch(half, first),
        case(half, first, "kernels", f"--kernels={','.join(ALTERNATIVES)}"),
        *(
            against_torch(dtype, batch_size)
            for dtype in dtypes
            for batch_size in batch_sizes
            if (dtype, batch_size) != (half, first)
        ),
        *(case(dtype, first, "by_layer", "--by_layer", "--inference") for dtype in dtypes),
        *(case(half, first, name, flags=flags) for name, flags in XLA_FLAGS.items()),
    ]


def run_gpu(json: str, minutes: float, tiny: bool) -> None:
    """Measure what is missing in the file until the time is over, then print and write a summary.

    UserError if the file can't be written or nothing could be measured.
    """
    until = time.monotonic() + 60 * minutes
    file = json_output.check_json(json)
    cases = gpu_cases(tiny, torch=not tiny and importlib.util.find_spec("torch") is not None)
    failed: dict[str, str] = {}
    for case in cases:
        left = until - time.monotonic()
        if not _read(file, case) and left > SHORTEST:
            print(f"\n== {case.name} {case.xla_flags}".rstrip(), flush=True)
            sentence = _measure(file, case, left)
            if sentence:
                failed[case.name] = sentence
                print(sentence, flush=True)
            _summarize(file, cases, failed)
    print("\n" + gpu_table(_summarize(file, cases, failed)), flush=True)
    if not any(_read(file, case) for case in cases):
        raise UserError("Nothing was measured: see the messages above.")


def _measure(file: pathlib.Path, case: Case, seconds: float) -> str:
    """Run a case; a sentence if it failed."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {case.xla_flags}".strip()
    words = [sys.executable, "-m", "alexnet_jax", "benchmark", "step", *case.words]
    words += [f"--json={file}", f"--run={case.name}"]
    environment = os.environ | ({"XLA_FLAGS": flags} if flags else {})
    try:
        code = subprocess.run(words, env=environment, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return f"{case.name} was stopped: the time was over."
    return f"{case.name} failed with code {code}." if code else ""


def _read(file: pathlib.Path, case: Case) -> dict | None:
    """The record of a case, None if it has measured nothing."""
    content = read_records(file).get(case.name)
    return content if content and content["cases"] else None


def _summarize(file: pathlib.Path, cases: list[Case], failed: dict[str, str]) -> dict:
    """Write the line "summary" and return its content."""
    rows, shared = [], {}
    for case in cases:
        content = _read(file, case)
        if content is None:
            continue
        shared = {key: value for key, value in content.items() if key not in ("cases", "left_out")}
        result = content["cases"][0]
        training = result["training"]
        rows.append(
            {
                "case": case.name,
                "xla_flags": case.xla_flags,
                "images_per_second": training["images_per_second"],
                "share_of_peak": training["share_of_peak"],
                "ratio": training.get("ratio"),
                "best_torch": training.get("best_torch"),
                "hours_of_90_epochs": result["hours_of_90_epochs"],
                "kernels": {
                    name: other["speed"] for name, other in result.get("kernels", {}).items()
                },
            }
        )
    done = {row["case"] for row in rows}
    missing = [case.name for case in cases if case.name not in done and case.name not in failed]
    content = shared | {"benchmark": "gpu", "rows": rows, "failed": failed, "missing": missing}
    write_record(file, SUMMARY, content)
    return content


def gpu_table(summary: dict) -> str:
    """A line for each case, then what failed and what is missing."""
    lines = [
        f"{'case':<32}{'images/s':>12}{'of peak':>9}{'90 epochs, h':>14}{'against torch':>14}"
        "  its best"
    ]
    for row in summary["rows"]:
        line = f"{row['case']:<32}{row['images_per_second']:>12,.0f}{row['share_of_peak']:>9.0%}"
        line += f"{row['hours_of_90_epochs']:>14,.2f}"
        if row["ratio"]:
            line += f"{row['ratio']:>12.2f} x  {row['best_torch']}"
        lines.append(line)
        lines += [
            f"  {name:<30}{speed:>12.2f} x the speed of the usual step beside it"
            for name, speed in row["kernels"].items()
        ]
    lines += summary["failed"].values()
    if summary["missing"]:
        lines.append(
            f"Missing, since the time was over: {', '.join(summary['missing'])}. The same command "
            "goes on with them."
        )
    return "\n".join(lines)
