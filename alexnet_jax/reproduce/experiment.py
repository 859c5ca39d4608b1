"""What an experiment is: runs that are compared, and the columns of its table."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Result = dict[str, Any]  # what execute.py records of a run
Results = Mapping[tuple[str, int], Result]  # by (name of a run, seed)


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run; with each of several seeds it is `NAME-seedN`.

    `config` is FILE:OPTIONS as for --config, `changes` are {field: value} on top of it. Runs of one
    `group` are candidates, such as the learning rates of a network: the best with seed 0 goes on
    with the other seeds. The table compares with the run or group `baseline`. `most_seeds` limits
    long runs, `minutes` is about what two slow cores need at most. `evaluations` are (split, views)
    at the end, besides validation as in training. The run ends sooner, once its training error is
    down to `until`.
    """

    name: str
    label: str
    config: str
    minutes: int
    changes: Mapping[str, object] = dataclasses.field(default_factory=dict)
    baseline: str = ""
    group: str = ""
    most_seeds: int = 100
    evaluations: tuple[tuple[str, str], ...] = ()
    until: float | None = None


@dataclasses.dataclass(frozen=True)
class Column:
    """A number of each run, averaged over seeds; None where a run has none.

    `metric` computes it from a run's record. `percent` says that it is a share, shown in percent,
    `best` that the lowest is the best seed's. `bound` is what the number would be at least where a
    run has none.
    """

    heading: str
    metric: Callable[[Result], float | None]
    percent: bool = True
    best: bool = True
    bound: Callable[[Result], float | None] = lambda result: None


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A claim of the paper in small. Rows are compared by the first column, less being better.

    `ratio` shows how many times as much a row has, instead of the difference, and a picture in the
    manner of Figure 1.
    """

    name: str
    section: str
    claim: str
    runs: tuple[Run, ...]
    columns: tuple[Column, ...]
    ratio: bool = False
