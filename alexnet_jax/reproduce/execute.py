"""A run of an experiment: the training command in a process of its own, then its record.

Stopped at any moment, the same command goes on: a run with a record is left alone, one with a
checkpoint goes on from there.
"""

import contextlib
import fcntl
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from alexnet_jax.reproduce.experiment import Result, Run
from alexnet_jax.runtime.errors import EXIT_DIVERGED, EXIT_PREEMPTED, Stopped, UserError
from alexnet_jax.runtime.run_records import read_records

ROOT = pathlib.Path(__file__).parent.parent.parent
POLL_SECONDS = 2.0
REMEDY = "take it away to have it run again."


def record_name(run: Run, seed: int) -> str:
    """The name of a run with a seed, of its record and of its folder."""
    return f"{run.name}-seed{seed}"


def read_results(file: pathlib.Path, runs: Sequence[Run]) -> dict[tuple[str, int], Result]:
    """The records of these runs, by name and seed.

    UserError for a record of another command than the run's today, and as for read_records.
    """
    results = {}
    by_name = {run.name: run for run in runs}
    for name, record in read_records(file).items():
        run_name, _, seed = name.rpartition("-seed")
        run = by_name.get(run_name)
        if run is None or not seed.isdecimal():
            continue
        if record.get("command") != training_command(run, int(seed)):
            raise UserError(
                f"{file}: the run {name} comes from another command than today's: {REMEDY}"
            )
        results[run_name, int(seed)] = record
    return results


def training_arguments(run: Run, seed: int, path: str) -> list[str]:
    """The arguments of the training command, but for the folder of the run."""
    fields = {**run.changes, "seed": seed, "data.path": path}
    changes = (f"--config.{field}={value}" for field, value in fields.items())
    return [f"--config={run.config}", *changes]


def training_command(run: Run, seed: int) -> str:
    """The training command, for people."""
    return " ".join(["python -m alexnet_jax.main", *training_arguments(run, seed, "SET")])


def execute(run: Run, seed: int, path: str, workdirs: pathlib.Path) -> Result:
    """Train and evaluate as the run says; returns its record.

    Stopped if this process was asked to end, after the run has saved. UserError if it failed.
    """
    workdir = workdirs / record_name(run, seed)
    with locked(workdir, training_command(run, seed)) as lock:
        diverged = not train(run, training_arguments(run, seed, path), workdir, lock)
        evaluations = {} if diverged else evaluate(run, workdir, lock)
        return collect_result(run, seed, workdir, evaluations)


def train(run: Run, arguments: Sequence[str], workdir: pathlib.Path, lock: int) -> bool:
    """Train until there is a summary; False if training diverged."""
    summary = workdir / "summary.json"
    while not summary.exists():
        # Where the training error is low enough already, the same run ends at that step.
        last_step = ending_step(run, workdir)
        end = [] if last_step is None else [f"--config.num_steps={last_step}"]

        def should_end(last_step=last_step) -> bool:
            return last_step is None and ending_step(run, workdir) is not None

        words = ["alexnet_jax.main", *arguments, *end, f"--workdir={workdir}"]
        code = run_module(words, lock, should_end)
        if code == EXIT_DIVERGED:
            return False
        if code not in (0, EXIT_PREEMPTED) or (code == 0 and not summary.exists()):
            raise UserError(
                f"The run in {workdir} ended with code {code}: correct what its message above "
                "names, and give the same command again."
            )
    return True


def evaluate(run: Run, workdir: pathlib.Path, lock: int) -> dict[str, dict]:
    """Scores by "SPLIT VIEWS", of the last checkpoint."""
    scores = {}
    for split, views in run.evaluations:
        file = workdir / f"{split}-{views}.json"
        if not file.exists():
            words = ["alexnet_jax", "evaluate", f"--workdir={workdir}", "--step=latest",
                     f"--split={split}", f"--views={views}", f"--json={file}"]  # fmt: skip
            if run_module(words, lock):
                raise UserError(
                    f"{workdir} can't be evaluated: correct what the message above names."
                )
        scores[f"{split} {views}"] = json.loads(file.read_text())["scores"]
    return scores


def run_module(
    words: Sequence[str], lock: int, should_end: Callable[[], bool] = lambda: False
) -> int:
    """Run python -m WORDS to its end and return its exit code.

    Once `should_end` is true the process is asked to end. SIGTERM and Ctrl-C are passed on to it,
    and when it has saved, Stopped is raised. It inherits the descriptor `lock`.
    """
    signals: list[int] = []
    process = None

    def pass_on(number: int, _) -> None:
        signals.append(number)
        if process:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, pass_fds=(lock,), start_new_session=True
        )
        terminated = bool(signals)
        if terminated:  # by a signal between the two lines above
            process.terminate()
        while True:
            try:
                code = process.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if not terminated and should_end():
                    process.terminate()
                    terminated = True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signals:
        exit_code = 0 if signals[0] == signal.SIGINT else EXIT_PREEMPTED
        raise Stopped("Stopped; the same command goes on from here.", exit_code, agreed=False)
    return code


@contextlib.contextmanager
def locked(workdir: pathlib.Path, command: str) -> Iterator[int]:
    """Keep other processes off the run, those of a command that was killed included.

    Gives the descriptor of a locked file, which a child process inherits; the file holds the
    command that began the run. UserError if another process holds the lock, or if another command
    began the run.
    """
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with workdir.with_name(f"{workdir.name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"Another process works on {workdir}: wait until it has ended, or end it."
            ) from None
        file.seek(0)
        if workdir.exists() and file.read() != command:
            raise UserError(f"{workdir} was begun by another command than today's: {REMEDY}")
        file.truncate(0)
        file.write(command)
        file.flush()
        yield file.fileno()


def read_metrics(workdir: pathlib.Path) -> list[dict]:
    """The whole lines of metrics.jsonl; none where there is no file yet."""
    file, records = workdir / "metrics.jsonl", []
    for line in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError):  # a line that is being written
            records.append(json.loads(line))
    return records


def reached_step(run: Run, workdir: pathlib.Path) -> int | None:
    """The first recorded step at which the training error is down to `run.until`."""
    if run.until is None:
        return None
    for record in read_metrics(workdir):
        error = record.get("top1_error")
        if record["split"] == "train" and error is not None and error <= run.until:
            return record["step"]
    return None


def ending_step(run: Run, workdir: pathlib.Path) -> int | None:
    """`reached_step` once there was an evaluation: a run cannot end without any."""
    evaluated = any(record["split"] == "val" for record in read_metrics(workdir))
    return reached_step(run, workdir) if evaluated else None


def collect_result(run: Run, seed: int, workdir: pathlib.Path, evaluations: dict) -> Result:
    """The record of a run: curves of errors by epoch, last errors, and where it comes from."""
    last = reached_step(run, workdir)
    kept = [record for record in read_metrics(workdir) if last is None or record["step"] <= last]

    def curve(split: str) -> list[list]:
        of_split = (record for record in kept if record["split"] == split)
        return [[round(record["epoch"], 3), record["top1_error"]] for record in of_split]

    result = {
        "name": run.name,
        "seed": seed,
        "command": training_command(run, seed),
        "curve": {"training": curve("train"), "validation": curve("val")},
        "evaluations": evaluations,
    }
    file = workdir / "summary.json"
    if not file.exists():
        from alexnet_jax.runtime.provenance import git_commit

        return result | {"diverged": True, "seconds": 0.0, "git_commit": git_commit()}
    summary = json.loads(file.read_text())
    summary["config"]["data"]["path"] = "SET"  # not this machine's
    names = ("steps", "epochs", "seconds", "training", "validation", "best", "parameters_sha256",
             "data", "config", "versions", "hardware", "git_commit")  # fmt: skip
    return result | {name: summary[name] for name in names}
