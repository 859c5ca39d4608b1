"""Which runs an experiment needs, with which seeds, and which of them are done."""

import statistics
from collections.abc import Collection, Mapping

from alexnet_jax.reproduce.experiment import Experiment, Result, Run
from alexnet_jax.runtime.errors import UserError

Done = Mapping[tuple[str, int], Result]  # (name of a run, seed): its JSON


def candidates(experiment: Experiment, name: str) -> list[Run]:
    """The run of that name alone, or all of the group of that name; none without a name."""
    return [run for run in experiment.runs if name and name in (run.name, run.group)]


def chosen(experiment: Experiment, name: str, done: Done) -> Run | None:
    """The best candidate with seed 0 by the first column, then the second; None until all are done.

    A run that has no number, e.g. since it diverged, is worse than any other.
    """
    runs = candidates(experiment, name)
    if not runs or not all((run.name, 0) in done for run in runs):
        return None

    def rank(run: Run) -> list[tuple[bool, float]]:
        values = [column.measure(done[run.name, 0]) for column in experiment.columns[:2]]
        return [(value is None, value or 0.0) for value in values]

    return min(runs, key=rank)


def at_the_edge(experiment: Experiment, run: Run) -> bool:
    """Whether a candidate is the first or last of several: a better one may lie beyond."""
    runs = candidates(experiment, run.group)
    return len(runs) > 1 and run in (runs[0], runs[-1])


def selected(experiment: Experiment, only: Collection[str]) -> list[Run]:
    """The runs and groups named, and those they are compared with; all if none is named."""
    if not only:
        return list(experiment.runs)
    found = []
    for name in only:
        runs = candidates(experiment, name)
        if not runs:
            names = dict.fromkeys(run.group or run.name for run in experiment.runs)
            raise UserError(
                f"{experiment.name} has no run '{name}': expected one of {', '.join(names)}."
            )
        for run in runs:
            found += [run, *candidates(experiment, run.against)]
    return [run for run in experiment.runs if run in found]


def seeds_of(experiment: Experiment, run: Run, seeds: int, done: Done) -> range:
    """The seeds with which a run is wanted, as far as is known yet."""
    if run.group and chosen(experiment, run.group, done) is not run:
        return range(1)
    return range(min(seeds, run.most_seeds))


def missing(
    experiment: Experiment, seeds: int, done: Done, only: Collection[str] = ()
) -> list[tuple[Run, int]]:
    """What is to be run next, seed after seed; more may follow once candidates are compared."""
    wanted = [
        (run, seed)
        for run in selected(experiment, only)
        for seed in seeds_of(experiment, run, seeds, done)
        if (run.name, seed) not in done
    ]
    return sorted(wanted, key=lambda pair: pair[1])


def counts(experiment: Experiment, seeds: int, done: Done) -> tuple[int, int, int]:
    """Runs done, runs needed in all, and about how many minutes are missing on two slow cores."""
    finished = sum(
        (run.name, seed) in done
        for run in experiment.runs
        for seed in seeds_of(experiment, run, seeds, done)
    )
    needed, minutes = finished, 0.0
    for run, _ in missing(experiment, seeds, done):
        needed, minutes = needed + 1, minutes + run.minutes
    for group in {run.group for run in experiment.runs} - {""}:
        if chosen(experiment, group, done) is None:
            runs = candidates(experiment, group)
            needed += seeds - 1
            minutes += (seeds - 1) * statistics.mean(run.minutes for run in runs)
    return finished, needed, round(minutes)
