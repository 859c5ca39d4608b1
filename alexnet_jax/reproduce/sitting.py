"""One sitting: the missing runs of an experiment, one after the other, each noted at once."""

import dataclasses
import pathlib
from collections.abc import Collection, Sequence

from alexnet_jax.reproduce import execute, pictures, plan, tables
from alexnet_jax.reproduce.experiment import Experiment, Result
from alexnet_jax.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sitting:
    """`path` has the images, `workdirs` the folders of runs, `docs` results.md and the JSON."""

    experiments: Sequence[Experiment]
    path: str
    workdirs: pathlib.Path
    docs: pathlib.Path

    def run(self, experiment: Experiment, seeds: int, only: Collection[str]) -> None:
        """Run what is missing; errors as for execute.execute."""
        while todo := plan.missing(experiment, seeds, self._done(experiment), only):
            run, seed = todo[0]
            print(
                f"{experiment.name}: {run.name}, seed {seed}; {len(todo)} to go, about "
                f"{sum(other.minutes for other, _ in todo)} minutes on two slow cores.",
                flush=True,
            )
            result = execute.execute(run, seed, self.path, self.workdirs)
            execute.write(execute.result_file(folder_of(self.docs), run, seed), result)
            write_tables(self.experiments, self.docs)
        write_tables(self.experiments, self.docs)
        print(tables.section(experiment, self._done(experiment)).strip())

    def _done(self, experiment: Experiment) -> dict[tuple[str, int], Result]:
        return execute.results(folder_of(self.docs), experiment.runs)


def folder_of(docs: pathlib.Path) -> pathlib.Path:
    """Where the JSON of runs lies."""
    return docs / "runs" / "reproduce"


def write_tables(experiments: Sequence[Experiment], docs: pathlib.Path) -> None:
    """Write the tables of results.md and the figure anew, from the JSON of all runs."""
    done = execute.results(folder_of(docs), [run for e in experiments for run in e.runs])
    file = docs / "results.md"
    if not file.is_file():
        raise UserError(f"There is no file {file} to write tables into: name its folder by --docs.")
    before = file.read_text()
    after = tables.page(before, experiments, done)
    if after != before:
        file.write_text(after)
    for experiment in experiments:
        if experiment.ratio:
            pictures.draw_figure1(experiment, done, docs / f"{experiment.name}.png")
