"""Run what an experiment is missing, one run after the other, and record each at once."""

import dataclasses
import pathlib
from collections.abc import Collection, Sequence

from alexnet_jax.reproduce import execute, figures, plan, tables
from alexnet_jax.reproduce.experiment import Experiment, Results
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.run_records import write_record


@dataclasses.dataclass(frozen=True)
class ExperimentRunner:
    """`path` has the images, `workdirs` the folders of runs, `docs` results.md and the records."""

    experiments: Sequence[Experiment]
    path: str
    workdirs: pathlib.Path
    docs: pathlib.Path

    def run(self, experiment: Experiment, seeds: int, only: Collection[str]) -> None:
        """Run what is missing; errors as for execute.execute."""
        while todo := plan.missing_runs(experiment, seeds, self._results(experiment), only):
            run, seed = todo[0]
            print(
                f"{experiment.name}: {run.name}, seed {seed}; {len(todo)} to go, about "
                f"{sum(other.minutes for other, _ in todo)} minutes on two slow cores.",
                flush=True,
            )
            result = execute.execute(run, seed, self.path, self.workdirs)
            write_record(records_file(self.docs), execute.record_name(run, seed), result)
            write_tables(self.experiments, self.docs)
        write_tables(self.experiments, self.docs)
        print(tables.section(experiment, self._results(experiment)).strip())

    def _results(self, experiment: Experiment) -> Results:
        return execute.read_results(records_file(self.docs), experiment.runs)


def records_file(docs: pathlib.Path) -> pathlib.Path:
    """The file with a line for each finished run."""
    return docs / "runs" / "reproduce.jsonl"


def write_tables(experiments: Sequence[Experiment], docs: pathlib.Path) -> None:
    """Write the tables of results.md and the figure anew, from the records of all runs."""
    runs = [run for experiment in experiments for run in experiment.runs]
    results = execute.read_results(records_file(docs), runs)
    file = docs / "results.md"
    if not file.is_file():
        raise UserError(f"There is no file {file} to write tables into: name its folder by --docs.")
    before = file.read_text()
    after = tables.fill_document(before, experiments, results)
    if after != before:
        file.write_text(after)
    for experiment in experiments:
        if experiment.ratio:
            figures.draw_figure1(experiment, results, docs / f"{experiment.name}.png")
