"""Tables of docs/results.md, made of the runs' JSON alone, and the list of claims."""

import math
import re
import statistics
from collections.abc import Sequence

from alexnet_jax.reproduce import plan
from alexnet_jax.reproduce.experiment import Column, Experiment, Run
from alexnet_jax.reproduce.plan import Done
from alexnet_jax.runtime.errors import UserError

SECTION = re.compile(r"(<!-- reproduce: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
CLEAR = 2.0  # a difference of so many standard errors is taken for one


def page(text: str, experiments: Sequence[Experiment], done: Done) -> str:
    """The document with each section between its markers written anew.

    UserError where an experiment has no markers, or markers no experiment.
    """
    known = {experiment.name: experiment for experiment in experiments}
    odd = set(known) ^ {match[2] for match in SECTION.finditer(text)}
    if odd:
        raise UserError(
            f"The markers <!-- reproduce: NAME --> of results.md and the experiments differ in "
            f"{', '.join(sorted(odd))}: each experiment needs one pair of markers."
        )
    return SECTION.sub(lambda match: match[1] + section(known[match[2]], done) + match[3], text)


def command(experiment: Experiment) -> str:
    """What makes the table."""
    return f"python -m alexnet_jax.reproduce {experiment.name} --path=SET"


def section(experiment: Experiment, done: Done) -> str:
    """The claim and a row for each run that is done, in Markdown."""
    runs = [run for run in experiment.runs if _results(run, done)]
    if not runs:
        return f"\n{_claim(experiment)} Not run yet: `{command(experiment)}`.\n\n"
    heads = ["run", "seeds", *(column.heading for column in experiment.columns)]
    if _compares(experiment):
        heads += ["times as many" if experiment.ratio else "difference", "clear?"]
    heads += ["minutes", "commit"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    lines += [_line(_row(experiment, run, done)) for run in runs]
    text = f"\n{_claim(experiment)} `{command(experiment)}`; one row with `--only=NAME`.\n\n"
    return text + "\n".join(lines) + "\n\n" + _picture(experiment, done)


def headline(experiment: Experiment, done: Done) -> str:
    """What was found so far, in a few words."""
    said = []
    for run in experiment.runs:
        difference, _ = _compared(experiment, run, done)
        if difference:
            said.append(f"{run.label}: {difference}")
    if not said:
        for run in experiment.runs:
            value = _mean(experiment.columns[0], run, done)
            if value and not run.group:
                said.append(f"{run.label}: {experiment.columns[0].heading} {value}")
    return "; ".join(said)


def listing(experiments: Sequence[Experiment], seeds: int, done: Done) -> str:
    """All claims: section, experiment, runs done and needed, minutes, command, and what came."""
    rows = [("experiment", "paper", "runs", "minutes left", "command")]
    for experiment in experiments:
        finished, needed, minutes = plan.counts(experiment, seeds, done)
        rows.append((experiment.name, experiment.section, f"{finished} of {needed}",
                     f"{minutes:,}", command(experiment)))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, experiment in zip(rows, [None, *experiments], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        if experiment:
            lines.append(f"    claim: {experiment.claim}")
            found = headline(experiment, done)
            lines += [f"    found: {found}"] if found else []
    return "\n".join(lines)


def _claim(experiment: Experiment) -> str:
    return f"Section {experiment.section}: {experiment.claim}."


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _results(run: Run, done: Done) -> list[dict]:
    """Of each seed that is done, in order."""
    found = sorted((seed, result) for (name, seed), result in done.items() if name == run.name)
    return [result for _, result in found]


def _row(experiment: Experiment, run: Run, done: Done) -> list[str]:
    results = _results(run, done)
    note = ""
    if run.group and plan.chosen(experiment, run.group, done) is run:
        edge = ", at the edge of its candidates" * plan.at_the_edge(experiment, run)
        note = f", **chosen**{edge}"
    means = [
        _mean(column, run, done) or _without_number(column, run, done)
        for column in experiment.columns
    ]
    minutes = statistics.mean(result["seconds"] for result in results) / 60
    commits = dict.fromkeys(_short(result["git_commit"]) for result in results)
    compared = _compared(experiment, run, done) if _compares(experiment) else ()
    return [
        f"{run.label}{note} (`{run.name}`)", str(len(results)), *means, *compared,
        f"{minutes:.1f}", ", ".join(commits),
    ]  # fmt: skip


def _compares(experiment: Experiment) -> bool:
    return any(run.against for run in experiment.runs)


def _short(commit: str) -> str:
    return commit[:7] + "+" * commit.endswith("+")


def _values(column: Column, run: Run, done: Done) -> list[float]:
    values = (column.measure(result) for result in _results(run, done))
    return [100 * value if column.percent else value for value in values if value is not None]


def _error(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values))


def _mean(column: Column, run: Run, done: Done) -> str:
    """Mean and standard error over seeds, and the best seed's; empty without any number.

    Seeds without a number, since they diverged or never came so far, are counted.
    """
    values = _values(column, run, done)
    if not values:
        return ""
    without = len(_results(run, done)) - len(values)
    digits, sign = (2, "%") if column.percent else (1, "")
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {_error(values):.{digits}f}"
    text += sign
    if len(values) > 1 and column.best:
        text += f" (best {min(values):.{digits}f}{sign})"
    return text + f", {without} without" * bool(without)


def _bounds(column: Column, run: Run, done: Done) -> list[float]:
    values = (column.bound(result) for result in _results(run, done))
    return [value for value in values if value is not None]


def _without_number(column: Column, run: Run, done: Done) -> str:
    """What stands where no seed has one."""
    least = _bounds(column, run, done)
    return f"more than {min(least):.1f}" if least else "none"


def _compared(experiment: Experiment, run: Run, done: Done) -> tuple[str, str]:
    """The difference from the run it is compared with, or the ratio, and whether it is clear.

    Errors of both runs are taken for independent; those of a ratio are carried over to first order.
    Where ours has a bound alone so has the ratio, without an error.
    """
    other = plan.chosen(experiment, run.against, done)
    is_it = not run.group or plan.chosen(experiment, run.group, done) is run
    if other is None or not is_it:
        return "", ""
    column = experiment.columns[0]
    ours, theirs = _values(column, run, done), _values(column, other, done)
    least = _bounds(column, run, done)
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


def _picture(experiment: Experiment, done: Done) -> str:
    groups = {run.group for run in experiment.runs} - {""}
    if experiment.ratio and all(plan.chosen(experiment, group, done) for group in groups):
        return f"![{experiment.name}]({experiment.name}.png)\n\n"
    return ""
