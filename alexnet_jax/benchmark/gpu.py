"""The page of gpu: many cases of the page step, each in a process of its own.

So one that runs out of memory or time takes no other with it, and XLA's flags can differ. Each
writes its file as soon as it is done, and a case whose file is there is not measured again.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time

from alexnet_jax.runtime.errors import UserError

BATCHES, TINY_BATCHES = (512, 128, 1024, 2048), (2,)
DTYPES = ("bfloat16", "float32")
# One device exchanges nothing, so latency hiding can only reorder what it computes and copies.
XLA_FLAGS = {
    "latency_hiding": "--xla_gpu_enable_latency_hiding_scheduler=true",
    "no_command_buffers": "--xla_gpu_enable_command_buffer=",
}
SHORTEST = 20.0  # seconds; with less left no case is begun


@dataclasses.dataclass(frozen=True)
class Case:
    """A call of the page step: its flags, without --json, and more of XLA's flags."""

    name: str
    words: tuple[str, ...]
    xla_flags: str = ""


# Those that differ from the usual step on a GPU.
ALTERNATIVES = (
    "strided_windows", "automatic_gradients", "bfloat16_velocity", "two_steps", "banded_norms",
    "separate_towers", "batched_towers",
)  # fmt: skip


def cases(tiny: bool, torch: bool) -> list[Case]:
    """What matters most first: one batch in all ways, its alternatives, then all others.

    PyTorch takes half a minute to compile a network, so that beside other batches it has one
    layout only, which was the faster one on an H200 at 512 images.
    """
    batches, dtypes = (TINY_BATCHES, DTYPES[:1]) if tiny else (BATCHES, DTYPES)
    plain = ("--network=lenet5_28", "--width=0.5", "--steps=1") if tiny else ("--steps=20",)

    def case(dtype: str, batch: int, name: str = "", *more: str, flags: str = "") -> Case:
        words = (*plain, f"--dtype={dtype}", f"--batch={batch}", *more)
        if "--by_layer" not in more:
            words += ("--no-by_layer",)
        return Case(f"{dtype}-{batch}{name and '-'}{name}", words, flags)

    first, half = batches[0], dtypes[0]

    def versus(dtype: str, batch: int) -> Case:
        layouts = () if batch == first else ("--torch_layouts=channels_last",)
        return case(dtype, batch, "", *(("--against=torch", *layouts) if torch else ()))

    return [
        versus(half, first),
        case(half, first, "kernels", f"--kernels={','.join(ALTERNATIVES)}"),
        *(
            versus(dtype, batch)
            for dtype in dtypes
            for batch in batches
            if (dtype, batch) != (half, first)
        ),
        *(case(dtype, first, "by_layer", "--by_layer", "--inference") for dtype in dtypes),
        *(case(half, first, name, flags=flags) for name, flags in XLA_FLAGS.items()),
    ]


def run(folder: pathlib.Path, minutes: float, tiny: bool) -> None:
    """Measure what is missing in the folder until the time is over, then print and write a summary.

    UserError if the folder can't be written or nothing could be measured.
    """
    until = time.monotonic() + 60 * minutes
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--json={folder} can't be written ({error.strerror}).") from error
    asked = cases(tiny, torch=not tiny and importlib.util.find_spec("torch") is not None)
    failed: dict[str, str] = {}
    for case in asked:
        left = until - time.monotonic()
        if not _read(folder, case) and left > SHORTEST:
            print(f"\n== {case.name} {case.xla_flags}".rstrip(), flush=True)
            sentence = _measure(folder, case, left)
            if sentence:
                failed[case.name] = sentence
                print(sentence, flush=True)
            _summarize(folder, asked, failed)
    print("\n" + table(_summarize(folder, asked, failed)), flush=True)
    if not any(_read(folder, case) for case in asked):
        raise UserError("Nothing was measured: see the messages above.")


def _measure(folder: pathlib.Path, case: Case, seconds: float) -> str:
    """Run a case; a sentence if it failed."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {case.xla_flags}".strip()
    words = [sys.executable, "-m", "alexnet_jax", "benchmark", "step", *case.words]
    words.append(f"--json={folder / case.name}.json")
    environment = os.environ | ({"XLA_FLAGS": flags} if flags else {})
    try:
        code = subprocess.run(words, env=environment, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return f"{case.name} was stopped: the time was over."
    return f"{case.name} failed with code {code}." if code else ""


def _read(folder: pathlib.Path, case: Case) -> dict | None:
    """What a case wrote, None if it has measured nothing."""
    try:
        content = json.loads((folder / f"{case.name}.json").read_text())
    except (OSError, ValueError):
        return None
    return content if content["cases"] else None


def _summarize(folder: pathlib.Path, asked: list[Case], failed: dict[str, str]) -> dict:
    """Write summary.json and return what is in it."""
    rows, about = [], {}
    for case in asked:
        content = _read(folder, case)
        if content is None:
            continue
        about = {key: value for key, value in content.items() if key not in ("cases", "left_out")}
        found = content["cases"][0]
        training = found["training"]
        rows.append(
            {
                "case": case.name,
                "xla_flags": case.xla_flags,
                "images_per_second": training["images_per_second"],
                "share_of_peak": training["share_of_peak"],
                "ratio": training.get("ratio"),
                "best_torch": training.get("best_torch"),
                "hours_of_90_epochs": found["hours_of_90_epochs"],
                "kernels": {
                    name: other["speed"] for name, other in found.get("kernels", {}).items()
                },
            }
        )
    done = {row["case"] for row in rows}
    missing = [case.name for case in asked if case.name not in done and case.name not in failed]
    content = about | {"page": "gpu", "rows": rows, "failed": failed, "missing": missing}
    (folder / "summary.json").write_text(json.dumps(content, indent=1))
    return content


def table(summary: dict) -> str:
    """A row for each case, then what failed and what is missing."""
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
