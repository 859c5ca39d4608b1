"""Kills a run again and again and compares what it leaves with what an undisturbed one leaves.

    python -m tests.support.killing --times=20 --seed=0 --processes=1

Each kill is aimed at a moment of the run's life and strikes after a random time; the table says
what it hit. At last the run is left alone to its end. Every number, event and file has to be as in
the undisturbed run, speeds and times apart; where not, it says what differs and ends with code 1.
With several processes one of them is killed, and the others have to end by themselves.
"""

import argparse
import collections
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from tests.support.launchers import free_ports
from tests.support.leftovers import differences, left_by

ROOT = pathlib.Path(__file__).parent.parent.parent
STEPS, LOGS, EVALUATES = 360, 10, 30
OPTIONS = (
    "--config=configs/quickstart.py", "--config.model.width=0.25",
    f"--config.num_steps={STEPS}",
    f"--config.log.every_steps={LOGS}",
    "--config.checkpoint.every_steps=20", f"--config.evaluate.every_steps={EVALUATES}",
    "--config.log.pictures_every_steps=40", "--config.log.histograms_every_steps=40",
)  # fmt: skip
LEFT_OUT = ("JAX_NUM_CPU_DEVICES", "JAX_COMPILATION_CACHE_DIR")
# Where kills are aimed at, the most telling first; the last one comes last, since it ends the run.
AIMS = ("saving", "opening", "stepping", "recording", "evaluating", "preparing", "starting",
        "ending")  # fmt: skip
WITHIN = 120  # seconds in which the other processes have to end by themselves


class Command:
    """The processes of one command, and the lines of process 0 as they come: `lines`."""

    def __init__(self, workdir: pathlib.Path, processes: int):
        self.workdir, self.lines, self.began = workdir, [], time.monotonic()
        self.times = {}  # when each kind of line came first
        clean = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        # Programs of its own, so that kills come while they are compiled and written too.
        clean["XDG_CACHE_HOME"] = str(workdir.parent / f"cache-of-{workdir.name}")
        command = [sys.executable, "-m", "alexnet_jax.main", *OPTIONS, f"--workdir={workdir}"]
        address = f"127.0.0.1:{free_ports()}" if processes > 1 else ""
        self.processes = []
        for rank in range(processes):
            member = {"COORDINATOR_ADDRESS": address, "NUM_PROCESSES": str(processes),
                      "PROCESS_ID": str(rank), "JAX_NUM_CPU_DEVICES": "1"}  # fmt: skip
            self.processes.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=clean | (member if processes > 1 else {}), text=True,
                    stdout=subprocess.DEVNULL if rank else subprocess.PIPE,
                    stderr=subprocess.DEVNULL if rank else subprocess.STDOUT,
                )
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self._reader.join()
        self.processes[0].stdout.close()

    def _read(self) -> None:
        for line in self.processes[0].stdout:
            self.lines.append(line.rstrip("\n"))
            self.times.setdefault(line.split(" ")[0], time.monotonic() - self.began)

    def wait(self, seconds: float | None = None) -> list[int]:
        """The exit codes of all processes."""
        codes = [process.wait(seconds) for process in self.processes]
        self._reader.join()
        return codes

    def runs(self) -> bool:
        """Whether no process has ended."""
        return all(process.poll() is None for process in self.processes)

    def said(self, start: str) -> bool:
        """Whether a line began so."""
        return any(line.startswith(start) for line in list(self.lines))

    def step(self) -> int:
        """The last step of which a line told; 0 before."""
        matches = [re.match(r"step (\d+)/", line) for line in list(self.lines)]
        return max((int(match[1]) for match in matches if match), default=0)

    def saves(self) -> bool:
        """Whether a checkpoint is being written."""
        return any(self.workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))

    def records(self) -> bool:
        """Whether metrics.jsonl is ahead of the lines, which come when TensorBoard's are out."""
        step = self.step()
        return step > 0 and f'{{"step": {step + LOGS},' in self._end_of_records()

    def _end_of_records(self) -> str:
        with (self.workdir / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1000))
            return file.read().decode()


def has_come(command: Command, aim: str, target: int) -> bool:
    """Whether the moment that a kill is aimed at has begun, not before step `target`."""
    step = command.step()
    return {
        "starting": lambda: True,
        "preparing": lambda: command.said("quickstart"),
        "opening": lambda: command.said("Compiled in"),
        "stepping": lambda: step >= target,
        "recording": lambda: step >= target and command.records(),
        "evaluating": lambda: step >= target and step % EVALUATES == 0,
        "saving": lambda: step >= target and command.saves(),
        "ending": lambda: step == STEPS or command.said(f"Going on from step {STEPS}"),
    }[aim]()


def hit(command: Command) -> str:
    """What a command did when it was killed, as its lines and files show."""
    step, lines = command.step(), command.lines
    if not command.said("quickstart"):
        return "starting"
    if not command.said("Compiled in"):
        return "preparing"
    if not step:
        return "opening"
    if command.saves():
        return "saving"
    if command.records():
        return "recording"
    evaluated = lines[-1].startswith("  validation at epoch")
    if step % EVALUATES == 0 and not evaluated and step < STEPS:
        return "evaluating"
    return "ending" if step == STEPS else "stepping"


def run_to_the_end(workdir: pathlib.Path, processes: int) -> dict[str, float]:
    """When each kind of line came first."""
    with Command(workdir, processes) as command:
        codes = command.wait()
    if any(codes):
        raise RuntimeError("\n".join([f"It ended with {codes}:", *command.lines]))
    return command.times


def longest_delays(times: dict[str, float]) -> dict[str, float]:
    """How long after the start of each moment a kill may come, in seconds."""
    first, compiled, stepped = (times[word] for word in ("quickstart,", "Compiled", "step"))
    return {
        "starting": first,
        "preparing": compiled - first,
        "opening": stepped - compiled,
        "stepping": 0.5,
        "recording": 0.0,
        "evaluating": 0.1,
        "saving": 0.02,
        "ending": 1.0,
    }


def kill_once(
    workdir: pathlib.Path,
    processes: int,
    aim: str,
    targets: tuple[int, int],
    delay: float,
    rank: int,
) -> tuple[str, int]:
    """Start the command, kill one process at the moment: (what was hit, last step told of).

    Not before the first of the steps `targets`, where it takes steps, nor long after the second.
    """
    with Command(workdir, processes) as command:
        while command.runs() and not has_come(command, aim, targets[0]):
            time.sleep(0.0002)  # less than it takes to write a record
        until = time.monotonic() + delay
        while time.monotonic() < until and command.step() < targets[1]:
            time.sleep(0.0002)
        if not command.runs():
            command.wait()
            return "nothing, it had ended", command.step()
        command.processes[rank].kill()
        command.wait(WITHIN)
        return hit(command), command.step()


def kill_again_and_again(
    folder: pathlib.Path, times: int, seed: int, processes: int = 1
) -> tuple[collections.Counter, list[str]]:
    """How often each moment was hit, and how the two runs in `folder` differ in the end."""
    print(f"undisturbed, {STEPS} steps ...", flush=True)
    longest = longest_delays(run_to_the_end(folder / "undisturbed", processes))
    instants = random.Random(seed)
    aims = [AIMS[number % len(AIMS)] for number in range(times)]
    instants.shuffle(aims)
    aims.sort(key="ending".__eq__)
    hits = collections.Counter()
    print(f"{'kill':>4}  {'aimed at':<12}{'after':>7}  {'process':>7}  {'last line':>9}  hit")
    for number, aim in enumerate(aims):
        # Each kill has its share of the steps, or a late one would leave none for those to come.
        share = STEPS / (times + 1)
        targets = int(share * (number + instants.random())), int(share * (number + 2))
        if aim == "ending":
            targets = STEPS, STEPS + 1
        delay, rank = instants.uniform(0, longest[aim]), instants.randrange(processes)
        what, step = kill_once(folder / "killed", processes, aim, targets, delay, rank)
        hits[what] += 1
        print(f"{number + 1:>4}  {aim:<12}{delay:>6.2f}s  {rank:>7}  {step:>9}  {what}", flush=True)
    run_to_the_end(folder / "killed", processes)
    return hits, differences(left_by(folder / "killed"), left_by(folder / "undisturbed"))


def main() -> None:
    """Kill, and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=20, help="kills in a row (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the instants (%(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="of the run (%(default)s)")
    arguments = parser.parse_args()
    folder, began = pathlib.Path(tempfile.mkdtemp(prefix="killed-")), time.monotonic()
    hits, differences = kill_again_and_again(
        folder, arguments.times, arguments.seed, arguments.processes
    )
    print(", ".join(f"{what}: {count}" for what, count in hits.most_common()))
    print(f"{time.monotonic() - began:.0f} s")
    if differences:
        print(
            "\n".join(differences[:40]), f"{len(differences)} differences; see {folder}.", sep="\n"
        )
        sys.exit(1)
    print("No difference to the undisturbed run.")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
