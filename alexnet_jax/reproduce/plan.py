"""Which runs an experiment needs, with which seeds, and which of them are done."""

import statistics
from collections.abc import Collection

from alexnet_jax.reproduce.experiment import Experiment, Results, Run
from alexnet_jax.runtime.errors import UserError


def candidates(experiment: Experiment, name: str) -> list[Run]:
    """The run of that name alone, or all of the group of that name; none without a name."""
    return [run for run in experiment.runs if name and name in (run.name, run.group)]


def best_candidate(experiment: Experiment, name: str, results: Results) -> Run | None:
    """The best candidate with seed 0 by the first column, then the second; None until all are done.

    A run that has no number, e.g. since it diverged, is worse than any other.
    """
    runs = candidates(experiment, name)
    if not runs or not all((run.name, 0) in results for run in runs):
        return None

    def rank(run: Run) -> list[tuple[bool, float]]:
        values = [column.metric(results[run.name, 0]) for column in experiment.columns[:2]]
        return [(value is None, value or 0.0) for value in values]

    return min(runs, key=rank)


def at_the_edge(experiment: Experiment, run: Run) -> bool:
    """Whether a candidate is the first or last of several: a better one may lie beyond."""
    runs = candidates(experiment, run.group)
    return len(runs) > 1 and run in (runs[0], runs[-1])


def selected_runs(experiment: Experiment, only: Collection[str]) -> list[Run]:
    """The runs and groups named, and those they are compared with; all if none is named."""
    if not only:
        return list(experiment.runs)
    chosen = []
    for name in only:
        runs = candidates(experiment, name)
        if not runs:
            names = dict.fromkeys(run.group or run.name for run in experiment.runs)
            raise UserError(
                f"{experiment.name} has no run '{name}': expected one of {', '.join(names)}."
            )
        for run in runs:
            chosen += [run, *candidates(experiment, run.baseline)]
    return [run for run in experiment.runs if run in chosen]


def seeds_of(experiment: Experiment, run: Run, seeds: int, results: Results) -> range:
    """The seeds with which a run is needed, as far as is known yet."""
    if run.group and best_candidate(experiment, run.group, results) is not run:
        return range(1)
    return range(min(seeds, run.most_seeds))


def missing_runs(
    experiment: Experiment, seeds: int, results: Results, only: Collection[str] = ()
) -> list[tuple[Run, int]]:
    """What is to be run next, seed after seed; more may follow once candidates are compared."""
    missing = [
        (run, seed)
        for run in selected_runs(experiment, only)
        for seed in seeds_of(experiment, run, seeds, results)
        if (run.name, seed) not in results
    ]
    return sorted(missing, key=lambda pair: pair[1])


def run_counts(experiment: Experiment, seeds: int, results: Results) -> tuple[int, int, int]:
    """(runs done, runs needed in all, minutes that two slow cores would still take)."""
    finished = sum(
        (run.name, seed) in results
        for run in experiment.runs
        for seed in seeds_of(experiment, run, seeds, results)
    )
    needed, minutes = finished, 0.0
    for run, _ in missing_runs(experiment, seeds, results):
        needed, minutes = needed + 1, minutes + run.minutes
    for group in {run.group for run in experiment.runs} - {""}:
        if best_candidate(experiment, group, results) is None:
            runs = candidates(experiment, group)
            needed += seeds - 1
            minutes += (seeds - 1) * statistics.mean(run.minutes for run in runs)
    return finished, needed, round(minutes)
