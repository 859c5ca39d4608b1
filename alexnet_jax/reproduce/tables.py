"""Tables of docs/results.md, made from the records of runs alone, and the list of claims."""

import math
import re
import statistics
import textwrap
from collections.abc import Sequence

from alexnet_jax.reproduce import plan
from alexnet_jax.reproduce.experiment import Column, Experiment, Result, Results, Run
from alexnet_jax.runtime.errors import UserError

SECTION = re.compile(r"(<!-- reproduce: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
WIDTH = 118  # columns of prose
CLEAR = 2.0  # a difference of so many standard errors is taken for one


def fill_document(text: str, experiments: Sequence[Experiment], results: Results) -> str:
    """The document with each section between its markers written anew.

    UserError where an experiment has no markers, or markers no experiment.
    """
    known = {experiment.name: experiment for experiment in experiments}
    unmatched = set(known) ^ {match[2] for match in SECTION.finditer(text)}
    if unmatched:
        raise UserError(
            f"The markers <!-- reproduce: NAME --> of results.md and the experiments differ in "
            f"{', '.join(sorted(unmatched))}: each experiment needs one pair of markers."
        )
    return SECTION.sub(lambda match: match[1] + section(known[match[2]], results) + match[3], text)


def reproduce_command(experiment: Experiment) -> str:
    """The command that makes the table."""
    return f"python -m alexnet_jax reproduce {experiment.name} --path=SET"


def section(experiment: Experiment, results: Results) -> str:
    """The claim and a row for each run that is done, in Markdown."""
    runs = [run for run in experiment.runs if _of_run(run, results)]
    if not runs:
        return f"\n{_claim(experiment)} Not run yet: `{reproduce_command(experiment)}`.\n\n"
    heads = ["run", "seeds", *(column.heading for column in experiment.columns)]
    if _compares(experiment):
        heads += ["times as many" if experiment.ratio else "difference", "clear?"]
    heads += ["minutes", "commit"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    lines += [_line(_row(experiment, run, results)) for run in runs]
    claim = textwrap.fill(_claim(experiment), WIDTH, break_on_hyphens=False)
    text = f"\n{claim}\n`{reproduce_command(experiment)}`; one row with `--only=NAME`.\n\n"
    return text + "\n".join(lines) + "\n\n" + _picture(experiment, results)


def headline(experiment: Experiment, results: Results) -> str:
    """The results so far, in a few words."""
    parts = []
    for run in experiment.runs:
        difference, _ = _compared(experiment, run, results)
        if difference:
            parts.append(f"{run.label}: {difference}")
    if not parts:
        for run in experiment.runs:
            value = _mean(experiment.columns[0], run, results)
            if value and not run.group:
                parts.append(f"{run.label}: {experiment.columns[0].heading} {value}")
    return "; ".join(parts)


def listing(experiments: Sequence[Experiment], seeds: int, results: Results) -> str:
    """All claims: section, experiment, runs done and needed, minutes, command, and results."""
    rows = [("experiment", "paper", "runs", "minutes left", "command")]
    for experiment in experiments:
        finished, needed, minutes = plan.run_counts(experiment, seeds, results)
        rows.append((experiment.name, experiment.section, f"{finished} of {needed}",
                     f"{minutes:,}", reproduce_command(experiment)))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for index, row in enumerate(rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        if index:
            experiment = experiments[index - 1]
            lines.append(f"    claim: {experiment.claim}")
            result = headline(experiment, results)
            lines += [f"    result: {result}"] if result else []
    return "\n".join(lines)


def _claim(experiment: Experiment) -> str:
    return f"Section {experiment.section}: {experiment.claim}."


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _of_run(run: Run, results: Results) -> list[Result]:
    """The results of a run, by seed."""
    seeds = sorted(seed for name, seed in results if name == run.name)
    return [results[run.name, seed] for seed in seeds]


def _row(experiment: Experiment, run: Run, results: Results) -> list[str]:
    of_run = _of_run(run, results)
    note = ""
    if run.group and plan.best_candidate(experiment, run.group, results) is run:
        edge = ", at the edge of its candidates" * plan.at_the_edge(experiment, run)
        note = f", **chosen**{edge}"
    means = [
        _mean(column, run, results) or _without_number(column, run, results)
        for column in experiment.columns
    ]
    minutes = statistics.mean(result["seconds"] for result in of_run) / 60
    commits = dict.fromkeys(_short(result["git_commit"]) for result in of_run)
    compared = _compared(experiment, run, results) if _compares(experiment) else ()
    return [
        f"{run.label}{note} (`{run.name}`)", str(len(of_run)), *means, *compared,
        f"{minutes:.1f}", ", ".join(commits),
    ]  # fmt: skip


def _compares(experiment: Experiment) -> bool:
    return any(run.baseline for run in experiment.runs)


def _short(commit: str) -> str:
    return commit[:7] + "+" * commit.endswith("+")


def _values(column: Column, run: Run, results: Results) -> list[float]:
    values = (column.metric(result) for result in _of_run(run, results))
    return [100 * value if column.percent else value for value in values if value is not None]


def _error(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def _mean(column: Column, run: Run, results: Results) -> str:
    """Mean and standard error over seeds, and the best seed's; empty without any number.

    Seeds without a number, since they diverged or never came so far, are counted.
    """
    values = _values(column, run, results)
    if not values:
        return ""
    without = len(_of_run(run, results)) - len(values)
    digits, sign = (2, "%") if column.percent else (1, "")
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {_error(values):.{digits}f}"
    text += sign
    if len(values) > 1 and column.best:
        text += f" (best {min(values):.{digits}f}{sign})"
    return text + f", {without} without" * bool(without)


def _bounds(column: Column, run: Run, results: Results) -> list[float]:
    values = (column.bound(result) for result in _of_run(run, results))
    return [value for value in values if value is not None]


def _without_number(column: Column, run: Run, results: Results) -> str:
    """What stands where no seed has one."""
    least = _bounds(column, run, results)
    return f"more than {min(least):.1f}" if least else "none"


def _compared(experiment: Experiment, run: Run, results: Results) -> tuple[str, str]:
    """(difference from the baseline, or ratio to it; whether it is clear); empty without either.

    Errors of both runs are taken for independent; those of a ratio are carried over to first order.
    Where ours has a bound alone so has the ratio, without an error.
    """
    other = plan.best_candidate(experiment, run.baseline, results)
    compared = not run.group or plan.best_candidate(experiment, run.group, results) is run
    if other is None or not compared:
        return "", ""
    column = experiment.columns[0]
    ours, theirs = _values(column, run, results), _values(column, other, results)
    least = _bounds(column, run, results)
    if experiment.ratio and theirs and not ours and least:
        value = min(least) / statistics.mean(theirs)
        clear = "more" if value > 1 else "no"
        one = min(len(least), len(theirs)) < 2
        return f"more than {value:.1f}", "one seed" if one else clear
    if not ours or not theirs:
        return "", ""
    mean, base = statistics.mean(ours), statistics.mean(theirs)
    value, neutral = (mean / base, 1.0) if experiment.ratio else (mean - base, 0.0)
    text = f"{value:.1f}" if experiment.ratio else f"{value:+.2f}"
    if min(len(ours), len(theirs)) < 2:
        return text, "one seed"
    spread = math.hypot(_error(ours), _error(theirs))
    if experiment.ratio:
        spread = value * math.hypot(_error(ours) / mean, _error(theirs) / base)
    text += f" ± {spread:.{1 if experiment.ratio else 2}f}"
    if abs(value - neutral) <= CLEAR * spread:
        return text, "no"
    return text, "more" if value > neutral else "less"


def _picture(experiment: Experiment, results: Results) -> str:
    groups = {run.group for run in experiment.runs} - {""}
    if experiment.ratio and all(
        plan.best_candidate(experiment, group, results) for group in groups
    ):
        return f"![{experiment.name}]({experiment.name}.png)\n\n"
    return ""
