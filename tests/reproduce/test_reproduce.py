"""The command reproduce: what is run, in which order, and what is made of the results."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from alexnet_jax.reproduce import execute, experiments, figures, plan, run_metrics, runner, tables
from alexnet_jax.reproduce.experiment import Column, Experiment, Run
from alexnet_jax.reproduce.experiments import EXPERIMENTS, FIGURE1
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.run_records import read_records, write_record
from tests.support import commands
from tests.training.test_plan import load, plan_of

ROOT = pathlib.Path(__file__).parent.parent.parent
ERROR = Column("test error", run_metrics.test_error)


def candidate(name, group):
    return Run(name, name, "configs/lenet5.py", 5, group=group)


# Two candidates of one group, a run compared with the group, and one that is long.
SMALL = Experiment(
    "small",
    "0",
    "a claim",
    (candidate("slow", "rate"), candidate("quick", "rate"),
     Run("other", "other", "configs/lenet5.py", 7, baseline="rate"),
     Run("long", "long", "configs/lenet5.py", 9, most_seeds=1)),
    (ERROR,),
)  # fmt: skip


def result(error, seconds=60.0, curve=((1.0, 0.5),)):
    return {"validation": {"top1_error": error}, "curve": {"training": list(curve)},
            "seconds": seconds, "git_commit": "a" * 40}  # fmt: skip


def names(pairs):
    return [(run.name, seed) for run, seed in pairs]


def test_candidates_run_with_one_seed_and_the_best_with_all():
    first = [("slow", 0), ("quick", 0), ("other", 0), ("long", 0)]
    assert names(plan.missing_runs(SMALL, 2, {})) == [*first, ("other", 1)]
    assert plan.run_counts(SMALL, 2, {}) == (0, 6, 5 + 5 + 7 + 9 + 7 + 5)
    done = {pair: result(0.3) for pair in first}
    done["quick", 0] = result(0.2)
    assert names(plan.missing_runs(SMALL, 2, done)) == [("quick", 1), ("other", 1)]
    assert plan.run_counts(SMALL, 2, done) == (4, 6, 12)
    assert plan.best_candidate(SMALL, "rate", done).name == "quick"
    done["quick", 0] = {"curve": {"training": []}}  # diverged
    assert plan.best_candidate(SMALL, "rate", done).name == "slow"
    assert names(plan.missing_runs(SMALL, 1, done)) == []


def test_what_is_named_comes_with_what_it_is_compared_with():
    assert names(plan.missing_runs(SMALL, 1, {}, ["other"])) == [
        ("slow", 0), ("quick", 0), ("other", 0)]  # fmt: skip
    assert names(plan.missing_runs(SMALL, 1, {}, ["rate"])) == [("slow", 0), ("quick", 0)]
    with pytest.raises(UserError, match="small has no run 'others': expected one of rate, other"):
        plan.missing_runs(SMALL, 1, {}, ["others"])


def test_a_table_has_means_and_standard_errors():
    ours, theirs = np.array([0.30, 0.33, 0.36]), np.array([0.20, 0.21, 0.25])
    done = {("other", seed): result(error, 90.0) for seed, error in enumerate(ours)}
    done |= {("quick", seed): result(error) for seed, error in enumerate(theirs)}
    done["slow", 0] = result(None)
    text = tables.section(SMALL, done)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    error = 100 * ours.std(ddof=1) / np.sqrt(3)
    difference = 100 * (ours.mean() - theirs.mean())
    spread = 100 * np.sqrt(ours.var(ddof=1) / 3 + theirs.var(ddof=1) / 3)
    assert rows[-1] == [
        "| other (`other`)", "3", f"33.00 ± {error:.2f}% (best 30.00%)",
        f"{difference:+.2f} ± {spread:.2f}", "more", "1.5", "aaaaaaa |",
    ]  # fmt: skip
    assert rows[2][:3] == ["| slow (`slow`)", "1", "none"]
    assert "**chosen**, at the edge" in rows[3][0]
    done["other", 3] = result(None)
    assert f"| 4 | 33.00 ± {error:.2f}% (best 30.00%), 1 without |" in tables.section(SMALL, done)
    done["other", 0] = result(0.05)  # so far from the other seeds that nothing is clear
    assert "| no |" in tables.section(SMALL, done)


def figure1_results(epochs):
    """Training errors that fall to 25% at that epoch, by run."""
    return {(name, seed): result(0.3, curve=[(0.0, 0.5), (2.0 * at, 0.0)])
            for name, times in epochs.items() for seed, at in enumerate(times)}  # fmt: skip


def test_the_ratio_of_epochs_is_that_of_the_chosen_rates(tmp_path):
    done = figure1_results({"figure1-relu-0.0005": [9.0], "figure1-relu-0.001": [4.0, 6.0],
                            "figure1-relu-0.002": [8.0], "figure1-relu-0.004": [9.0],
                            "figure1-relu-0.008": [25.0], "figure1-tanh-0.0005": [60.0],
                            "figure1-tanh-0.001": [30.0, 30.0],
                            "figure1-tanh-0.002": [50.0]})  # fmt: skip
    assert not figures.draw_figure1(FIGURE1, done, tmp_path / "f.png")
    done |= figure1_results({"figure1-tanh-0.004": [70.0], "figure1-tanh-0.008": [80.0],
                             "figure1-tanh-0.016": [90.0],
                             "figure1-tanh-0.032": [95.0]})  # fmt: skip
    text = tables.section(FIGURE1, done)
    row = next(line for line in text.splitlines() if "`figure1-tanh-0.001`" in line)
    # 30 / 5; of the error the part of ReLU alone: 6 * 1 / 5
    assert "| 30.0 ± 0.0 (best 30.0) | 0.00 ± 0.00% (best 0.00%) | 6.0 ± 1.2 | more |" in row
    assert text.count("**chosen**") == 2
    assert "edge" not in text
    assert figures.draw_figure1(FIGURE1, done, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_a_rate_that_never_gets_there_is_a_bound():
    rates = experiments.FIGURE1_RATES
    done = figure1_results({f"figure1-relu-{rate:g}": [5.0] for rate in rates["relu"]})
    for rate, error in zip(rates["tanh"], (0.4, 0.3, 0.29, 0.31, 0.6, 0.9, 0.9), strict=True):
        curve = [(1.0, 0.7), (60.0, error)]
        done[f"figure1-tanh-{rate:g}", 0] = result(0.3, curve=curve)
    text = tables.section(FIGURE1, done)
    row = next(line for line in text.splitlines() if "`figure1-tanh-0.002`" in line)
    assert row.startswith(
        "| tanh, rate 0.002, **chosen** (`figure1-tanh-0.002`) | 1 | more than 60.0"
    )
    assert "| 29.00% | more than 12.0 | one seed |" in row
    done["figure1-tanh-0.002", 1] = result(0.3, curve=[(58.0, 0.28)])
    done["figure1-relu-0.0005", 1] = done["figure1-relu-0.0005", 0]
    assert "| more than 11.6 | more |" in tables.section(FIGURE1, done)
    short = result(0.3, curve=[(2.0, 0.28)])
    done["figure1-tanh-0.002", 1] = short
    assert "| more than 0.4 | no |" in tables.section(FIGURE1, done)
    assert run_metrics.epochs_trained(short) == 2.0
    assert run_metrics.epochs_trained(short | {"diverged": True}) is None


def test_gaps_and_views_are_differences():
    errors = {"train center": {"top1_error": 0.1}, "val ten": {"top1_error": 0.22}}
    done = result(0.25) | {"evaluations": errors}
    assert run_metrics.gap(done) == pytest.approx(0.15)
    assert run_metrics.gain_of_ten_views(done) == pytest.approx(0.03)
    assert run_metrics.gap(result(0.25)) is run_metrics.best_error(result(0.25)) is None


def test_every_run_is_sound_and_has_a_name_of_its_own():
    known = {}
    for experiment in EXPERIMENTS:
        for run in experiment.runs:
            assert known.setdefault(run.name, run) == run  # shared, or its own
            assert not run.baseline or plan.candidates(experiment, run.baseline)
            file, _, argument = run.config.partition(":")
            config = load(pathlib.Path(file).stem, argument)
            config.update_from_flattened_dict(dict(run.changes))
            plan_of(config, records=50_000, classes=10)
    assert len({execute.training_command(run, 0) for run in known.values()}) == len(known)


def test_the_list_has_every_claim():
    lines = tables.listing((SMALL,), 3, {("other", 0): result(0.3)}).splitlines()
    assert lines[1].split()[:5] == ["small", "0", "1", "of", "8"]
    assert lines[2] == "    claim: a claim"
    assert lines[3] == "    result: other: test error 30.00%"


def test_the_tables_in_the_documentation_are_those_of_the_runs():
    text = (ROOT / "docs/results.md").read_text()
    runs = [run for experiment in EXPERIMENTS for run in experiment.runs]
    done = execute.read_results(runner.records_file(ROOT / "docs"), runs)
    assert tables.fill_document(text, EXPERIMENTS, done) == text
    with pytest.raises(UserError, match="differ in history"):
        tables.fill_document(text, EXPERIMENTS[:-1], done)


def test_one_process_with_one_command_works_on_a_run(tmp_path):
    with (
        execute.locked(tmp_path / "run", "this"),
        pytest.raises(UserError, match="Another process works on"),
        execute.locked(tmp_path / "run", "this"),
    ):
        pass
    (tmp_path / "run").mkdir()
    with execute.locked(tmp_path / "run", "this"):
        pass
    with (
        pytest.raises(UserError, match="begun by another"),
        execute.locked(tmp_path / "run", "that"),
    ):
        pass


def test_a_result_of_another_command_is_refused(tmp_path):
    run = SMALL.runs[0]
    file, name = tmp_path / "reproduce.jsonl", execute.record_name(run, 4)
    curve = {"training": [[1, np.nan]]}
    write_record(file, name, {"command": execute.training_command(run, 4), "curve": curve})
    assert execute.read_results(file, SMALL.runs)["slow", 4]["curve"]["training"] == [[1, None]]
    write_record(file, name, {"command": execute.training_command(run, 5)})
    with pytest.raises(UserError, match="slow-seed4 comes from another command than today's: take"):
        execute.read_results(file, SMALL.runs)
    file.write_text("{")
    with pytest.raises(UserError, match="is not the JSON of a run"):
        execute.read_results(file, SMALL.runs)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["figure2", "--path=x"], "There is no experiment 'figure2': did you mean figure1?"),
        (["figure1"], "Which images? Add --path=DIR"),
        (["--seeds=0"], "--seeds=0 must be at least 1"),
        (["tables", "--docs=nowhere"], "There is no file nowhere/results.md"),
    ],
)
def test_a_mistake_gets_one_sentence(words, sentence):
    _, errors = commands.run("reproduce", *words, code=2)
    assert sentence in errors


def test_table_2_names_configs_that_exist():
    printed, _ = commands.run("reproduce", "table2", "--path=DIR")
    configs = [word.removeprefix("--config=") for word in printed.split() if "--config=" in word]
    assert len(configs) == 9
    for config in configs:
        file, _, argument = config.partition(":")
        load(pathlib.Path(file).stem, argument)
    assert sum("--views=ten" in line for line in printed.splitlines()) == 4


def test_a_run_ends_early_once_it_was_evaluated(tmp_path):
    run = dataclasses.replace(SMALL.runs[0], until=0.25)
    file = tmp_path / "metrics.jsonl"
    assert execute.ending_step(run, tmp_path) is None
    lines = [{"step": step, "split": "train", "epoch": step / 10, "top1_error": error}
             for step, error in ((5, 0.6), (10, None), (15, 0.25), (20, 0.1))]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 25, "spl')
    assert execute.reached_step(run, tmp_path) == 15
    assert execute.ending_step(run, tmp_path) is None
    lines.append({"step": 20, "split": "val", "epoch": 2.0, "top1_error": 0.2})
    file.write_text("\n".join(map(json.dumps, lines)))
    assert execute.ending_step(run, tmp_path) == 15
    assert execute.ending_step(SMALL.runs[0], tmp_path) is None
    curve = execute.collect_result(run, 0, tmp_path, {})["curve"]
    assert curve == {"training": [[0.5, 0.6], [1.0, None], [1.5, 0.25]], "validation": []}


TINY = {"log.every_steps": 5, "evaluate.every_steps": 20, "checkpoint.every_steps": 10}
LEARNS = Run("learns", "learns", "configs/lenet5.py:relu", 1, TINY | {"num_steps": 100},
             evaluations=(("val", "ten"),))  # fmt: skip
STOPS = dataclasses.replace(LEARNS, name="stops", changes=TINY | {"num_steps": 4000}, until=0.5)
TRIAL = Experiment("trial", "0", "a claim", (LEARNS, STOPS), (ERROR,))
RUN_TRIAL = """
import pathlib, sys
from alexnet_jax.reproduce.runner import ExperimentRunner
from alexnet_jax.runtime.errors import Stopped
from tests.reproduce.test_reproduce import TRIAL
where = pathlib.Path(sys.argv[1])
try:
    ExperimentRunner((TRIAL,), "", where / "runs", where / "docs").run(TRIAL, 1, [])
except Stopped as stop:
    sys.exit(stop.code)
"""


def start_trial(where):
    (where / "docs").mkdir(exist_ok=True)
    (where / "docs/results.md").write_text("# R\n<!-- reproduce: trial -->\n<!-- end -->\n")
    words = [sys.executable, "-c", RUN_TRIAL, str(where)]
    return subprocess.Popen(words, cwd=ROOT, env=commands.ENVIRONMENT)


def recorded(where, name):
    return read_records(where / "docs/runs/reproduce.jsonl")[f"{name}-seed0"]


@pytest.mark.slow
def test_an_experiment_is_stopped_goes_on_and_is_not_run_again(tmp_path):
    process = start_trial(tmp_path)
    while not list((tmp_path / "runs/learns-seed0/checkpoints").glob("[1-9]*")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert not (tmp_path / "docs/runs").exists()
    assert start_trial(tmp_path).wait() == 0
    learned = recorded(tmp_path, "learns")
    epochs = [epoch for epoch, _ in learned["curve"]["training"]]
    np.testing.assert_allclose(epochs, np.arange(5, 101, 5) * 64 / 1438, atol=6e-4)
    assert learned["evaluations"]["val ten"]["images"] == 359
    assert learned["config"]["data"]["path"] == "SET"
    stopped = recorded(tmp_path, "stops")
    assert stopped["steps"] < 4000
    errors = [error for _, error in stopped["curve"]["training"]]
    assert errors[-1] <= 0.5 < min(errors[:-1], default=1.0)
    file = tmp_path / "docs/runs/reproduce.jsonl"
    before = file.stat().st_mtime_ns
    assert "| learns (`learns`) | 1 |" in (tmp_path / "docs/results.md").read_text()
    assert start_trial(tmp_path).wait() == 0
    assert file.stat().st_mtime_ns == before
