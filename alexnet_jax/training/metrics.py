"""What a run tells: lines in the terminal, metrics.jsonl, TensorBoard and summary.json."""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator


class MetricsLog:
    """Writes each record of a run to WORKDIR/metrics.jsonl, to TensorBoard and to the terminal.

    Only the lead process has one that writes. Records later than `first_step` are dropped from an
    existing file: the run goes on from there and writes them again.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int, writes: bool):
        self._file = self._writer = None
        if not writes:
            return
        path = workdir / "metrics.jsonl"
        _cut_back(path, first_step)
        self._file = path.open("a")
        from clu.metric_writers import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        if self._file:
            self._file.close()
            self._writer.close()

    def write(self, record: dict, line: str) -> None:
        """One record with `step`, `split` and numbers, and the line that says it to a person."""
        if not self._file:
            return
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        scalars = {
            f"{record['split']}/{name}": value
            for name, value in flatten(record)
            if name not in ("step", "split")
        }
        self._writer.write_scalars(record["step"], scalars)
        self._writer.flush()
        print(line, flush=True)


class Rate:
    """Images a second, not counting the time within `paused`."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._paused = 0.0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While the loop does something else, such as an evaluation."""
        began = time.perf_counter()
        yield
        self._paused += time.perf_counter() - began

    def take(self, images: int) -> float:
        """Images a second since the last call."""
        now = time.perf_counter()
        seconds = now - self._since - self._paused
        self._since, self._paused = now, 0.0
        return images / max(seconds, 1e-9)


class ProgressLine:
    """Says how far something long is, at most every ten seconds and at its end."""

    def __init__(self, what: str, say: Callable[[str], None]):
        self._what, self._say = what, say
        self._began = self._said = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` images are through."""
        now = time.perf_counter()
        if now - self._said < 10 and done < total:
            return
        self._said = now
        speed = done / max(now - self._began, 1e-9)
        left = f", {duration((total - done) / speed)} left" if done < total else ""
        self._say(f"{self._what}: {done:,} of {total:,} images, {speed:,.0f} images/s{left}")


def flatten(record: dict, prefix: str = "") -> list[tuple[str, float]]:
    """Leaves of nested dicts with names joined by a slash."""
    leaves = []
    for name, value in record.items():
        if isinstance(value, dict):
            leaves += flatten(value, f"{prefix}{name}/")
        else:
            leaves.append((prefix + name, value))
    return leaves


def duration(seconds: float) -> str:
    """Seconds as 12s, 3m40s or 5h07m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def write_json(path: pathlib.Path, content: dict) -> None:
    """Write a JSON file that appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def _cut_back(path: pathlib.Path, step: int) -> None:
    """Keep the records up to `step`; a line cut short by a kill is dropped."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(kept))
    os.replace(partial, path)
