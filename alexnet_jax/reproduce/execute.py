"""A run of an experiment: `python -m alexnet_jax.main` in a process of its own, then its JSON.

Stopped at any moment, the same command goes on: what has its JSON is left alone, what has a
checkpoint goes on from there.
"""

import contextlib
import fcntl
import json
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from alexnet_jax.reproduce.experiment import Result, Run
from alexnet_jax.runtime.errors import EXIT_DIVERGED, EXIT_PREEMPTED, Stopped, UserError
from alexnet_jax.runtime.json_files import finite

ROOT = pathlib.Path(__file__).parent.parent.parent
LOOK_SECONDS = 2.0
AWAY = "take it away to have it run again."


def result_file(folder: pathlib.Path, run: Run, seed: int) -> pathlib.Path:
    """Where the JSON of a run lies."""
    return folder / f"{run.name}-seed{seed}.json"


def results(folder: pathlib.Path, runs: Sequence[Run]) -> dict[tuple[str, int], Result]:
    """All JSON that is there of these runs, by name and seed.

    UserError for one that is none, and for one of another command than the run's today.
    """
    found = {}
    for run in runs:
        for file in folder.glob(f"{run.name}-seed[0-9]*.json"):
            seed = int(file.stem.removeprefix(f"{run.name}-seed"))
            try:
                found[run.name, seed] = json.loads(file.read_text())
                known = found[run.name, seed]["command"] == command(run, seed)
            except (ValueError, KeyError) as error:
                raise UserError(f"{file} is not the JSON of a run ({error}): {AWAY}") from error
            if not known:
                raise UserError(f"{file} comes from another command than today's: {AWAY}")
    return found


def arguments(run: Run, seed: int, path: str) -> list[str]:
    """What main is given, but for the folder of the run."""
    fields = {**run.changes, "seed": seed, "data.path": path}
    changes = (f"--config.{field}={value}" for field, value in fields.items())
    return [f"--config={run.config}", *changes]


def command(run: Run, seed: int) -> str:
    """The training command, for people."""
    return " ".join(["python -m alexnet_jax.main", *arguments(run, seed, "SET")])


def execute(run: Run, seed: int, path: str, workdirs: pathlib.Path) -> Result:
    """Train and evaluate as the run says; the content of its JSON.

    Stopped if this process was asked to end, after the run has saved. UserError if it failed.
    """
    workdir = workdirs / f"{run.name}-seed{seed}"
    with alone(workdir, command(run, seed)) as lock:
        diverged = not train(run, arguments(run, seed, path), workdir, lock)
        evaluations = {} if diverged else evaluate(run, workdir, lock)
        return content(run, seed, workdir, evaluations)


def train(run: Run, given: Sequence[str], workdir: pathlib.Path, lock: int) -> bool:
    """Train until there is a summary; False if training diverged."""
    summary = workdir / "summary.json"
    while not summary.exists():
        # Where the training error is low enough already, the same run ends at that step.
        reached = ending_step(run, workdir)
        end = [] if reached is None else [f"--config.num_steps={reached}"]

        def enough(reached=reached) -> bool:
            return reached is None and ending_step(run, workdir) is not None

        words = ["alexnet_jax.main", *given, *end, f"--workdir={workdir}"]
        code = follow(words, lock, enough)
        if code == EXIT_DIVERGED:
            return False
        if code not in (0, EXIT_PREEMPTED) or (code == 0 and not summary.exists()):
            raise UserError(
                f"The run in {workdir} ended with code {code}: mend what it says above, and give "
                "the same command again."
            )
    return True


def evaluate(run: Run, workdir: pathlib.Path, lock: int) -> dict:
    """Errors by "SPLIT VIEWS", of the last checkpoint."""
    found = {}
    for split, views in run.evaluations:
        file = workdir / f"{split}-{views}.json"
        if not file.exists():
            words = ["alexnet_jax.evaluate", f"--workdir={workdir}", "--step=latest",
                     f"--split={split}", f"--views={views}", f"--json={file}"]  # fmt: skip
            if follow(words, lock):
                raise UserError(f"{workdir} can't be evaluated: mend what it says above.")
        found[f"{split} {views}"] = json.loads(file.read_text())["scores"]
    return found


def follow(words: Sequence[str], lock: int, enough: Callable[[], bool] = lambda: False) -> int:
    """Run python -m WORDS to its end and return its code; once it is `enough` it is asked to end.

    SIGTERM and Ctrl-C are passed on to it, and when it has saved, Stopped is raised.
    """
    asked: list[int] = []
    process = None

    def pass_on(number: int, _) -> None:
        asked.append(number)
        if process:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, pass_fds=(lock,), start_new_session=True
        )
        told = bool(asked)
        if told:  # between the two lines above
            process.terminate()
        while True:
            try:
                code = process.wait(LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if not told and enough():
                    process.terminate()
                    told = True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        ends = 0 if asked[0] == signal.SIGINT else EXIT_PREEMPTED
        raise Stopped("Stopped; the same command goes on from here.", ends, agreed=False)
    return code


@contextlib.contextmanager
def alone(workdir: pathlib.Path, begun_by: str) -> Iterator[int]:
    """Keep others off the run, the processes of a command that was killed included.

    Gives the descriptor of a locked file, which a child process inherits; it says what began the
    run. UserError if another process has it, or if another command began it.
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
        if workdir.exists() and file.read() != begun_by:
            raise UserError(f"{workdir} was begun by another command than today's: {AWAY}")
        file.truncate(0)
        file.write(begun_by)
        file.flush()
        yield file.fileno()


def records(workdir: pathlib.Path) -> list[dict]:
    """The whole lines of metrics.jsonl; none where there is no file yet."""
    file, found = workdir / "metrics.jsonl", []
    for line in file.read_text().splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError):  # a line that is being written
            found.append(json.loads(line))
    return found


def reached_step(run: Run, workdir: pathlib.Path) -> int | None:
    """The first recorded step at which the training error is down to `run.until`."""
    if run.until is None:
        return None
    for record in records(workdir):
        error = record.get("top1_error")
        if record["split"] == "train" and error is not None and error <= run.until:
            return record["step"]
    return None


def ending_step(run: Run, workdir: pathlib.Path) -> int | None:
    """The same once there was an evaluation: a run cannot end without any."""
    evaluated = any(record["split"] == "val" for record in records(workdir))
    return reached_step(run, workdir) if evaluated else None


def content(run: Run, seed: int, workdir: pathlib.Path, evaluations: dict) -> Result:
    """What is kept of a run: curves of errors by epoch, last errors, and where it comes from."""
    last = reached_step(run, workdir)
    kept = [record for record in records(workdir) if last is None or record["step"] <= last]

    def curve(split: str) -> list[list]:
        own = (record for record in kept if record["split"] == split)
        return [[round(record["epoch"], 3), record["top1_error"]] for record in own]

    about = {
        "name": run.name,
        "seed": seed,
        "command": command(run, seed),
        "curve": {"training": curve("train"), "validation": curve("val")},
        "evaluations": evaluations,
    }
    summary = workdir / "summary.json"
    if not summary.exists():
        from alexnet_jax.runtime.provenance import git_commit

        return about | {"diverged": True, "seconds": 0.0, "git_commit": git_commit()}
    found = json.loads(summary.read_text())
    found["config"]["data"]["path"] = "SET"  # not this machine's
    names = ("steps", "epochs", "seconds", "training", "validation", "best", "parameters_sha256",
             "data", "config", "versions", "hardware", "git_commit")  # fmt: skip
    return about | {name: found[name] for name in names}


def write(file: pathlib.Path, result: Result) -> None:
    """Write the JSON of a run, whole or not at all; lists of numbers are kept on a line."""
    text = json.dumps(finite(result), indent=1, allow_nan=False)
    text = re.sub(r"\[[^][{}]*\]", lambda match: " ".join(match[0].split()), text)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(text + "\n")
    partial.replace(file)
