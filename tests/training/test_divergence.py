"""A run whose steps are no numbers stops, goes back or skips them; one that stalls is warned."""

import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest

from alexnet_jax.data import sources
from alexnet_jax.model import alexnet
from alexnet_jax.runtime import cli
from alexnet_jax.runtime.errors import EXIT_DIVERGED, Diverged
from alexnet_jax.training import checkpoint, divergence, optimizer, report
from alexnet_jax.training.loop import train_and_evaluate
from alexnet_jax.training.plan import architecture_of
from alexnet_jax.training.progress import Progress, rate_factor
from tests.support import launchers, miniature
from tests.training.test_bad_steps import UNLIKELY, changed, unlikely
from tests.training.test_plan import load, plan_of


def lenet(**changes):
    config = load("lenet5", "relu,smoke")
    config.log.pictures_every_epochs = 0.0
    config.update_from_flattened_dict(changes)
    return config


def rates(*pairs):
    return {
        "optimizer.unit": "steps",
        "optimizer.learning_rate": pairs,
        "optimizer.bias_learning_rate": pairs,
    }


def strictly(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def records(workdir, split="train"):
    lines = map(strictly, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == split]


def images_of(step, batch=8, seed=0):
    """Names of all digits of a step of the first epoch."""
    order = np.random.default_rng([seed, 0]).permutation(1438)
    return [f"digit{record:04d}" for record in order[(step - 1) * batch : step * batch]]


def test_a_rate_that_is_much_too_high_stops_the_run(tmp_path):
    """Step 1 gives huge weights, step 2 no numbers; it is noticed at step 4, with the metrics."""
    config = lenet(**rates((0, 1e10)), **{"num_steps": 8, "log.every_steps": 4})
    with pytest.raises(Diverged, match=r"In step 2 the loss, .*on_divergence=rollback") as fault:
        train_and_evaluate(config, tmp_path)
    assert f"its images are {', '.join(images_of(2)[:5])} and 3 more." in str(fault.value)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert checkpoint.steps_in(tmp_path / "checkpoints") == []
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("rate", "saved", "bad"), [pytest.param(1e10, [1], 2, marks=pytest.mark.slow), (1e39, [], 1)]
)
def test_bad_parameters_are_never_saved(tmp_path, rate, saved, bad):
    """The second rate is infinite: the weights after step 1 are bad, its loss and gradient not."""
    config = lenet(**rates((0, rate)), **{"checkpoint.every_steps": 1, "log.every_steps": 50,
                                          "evaluate.every_steps": 50, "num_steps": 3})  # fmt: skip
    with pytest.raises(Diverged, match=f"In step {bad} the loss"):
        train_and_evaluate(config, tmp_path)
    assert checkpoint.steps_in(tmp_path / "checkpoints") == saved
    for step in saved:
        shapes = alexnet.draw_parameters(architecture_of(config), 10, jax.random.key(0))
        parameters = checkpoint.parameters_at(tmp_path / "checkpoints", step, shapes)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters))


def going_back(*pairs, **changes):
    """A config that goes back when it diverges, and saves every four steps."""
    config = lenet(**rates(*pairs), **{"guards.on_divergence": "rollback", "num_steps": 10,
                                       "checkpoint.every_steps": 4})  # fmt: skip
    config.update_from_flattened_dict({"evaluate.every_steps": 50} | changes)
    return config


def saved_in_time():
    """Diverges at step 8, saved at step 4; with rates divided by 1e13 it ends at step 10."""
    return going_back((0, 0.01), (6, 1e10), **{"guards.rollback_factor": 1e13})


def killed_at(monkeypatch, config, workdir, step, time):
    """Train until a step comes for the `time`-th time."""
    seen = []

    def redraw(self, now):
        seen.append(now)
        if seen.count(step) == time:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report.Reporter, "redraw", redraw)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, workdir)


def test_a_run_goes_back_and_on_with_lower_rates(tmp_path, capsys):
    result = train_and_evaluate(saved_in_time(), tmp_path)
    said = capsys.readouterr().out
    assert "warning: In step 8 the loss" in said
    assert f"its images are {', '.join(images_of(8)[:5])} and 3 more. Back to the newest" in said
    assert "with all learning rates divided by 1e+13 (1 of 3)." in said
    assert said.count("Going on from step 4 of 10.") == 1
    assert result["rollbacks"] == 1
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 11))
    seen = [line["learning_rate"]["weights"] for line in lines]
    np.testing.assert_allclose(seen, [0.01] * 4 + [1e-15] * 2 + [1e-3] * 4)


@pytest.mark.slow
def test_a_run_that_goes_back_ends_alike_when_it_is_killed(tmp_path, monkeypatch, capsys):
    whole = train_and_evaluate(saved_in_time(), tmp_path / "whole")
    killed_at(monkeypatch, saved_in_time(), tmp_path / "parts", 6, 2)  # gone back, not saved since
    killed_at(monkeypatch, saved_in_time(), tmp_path / "parts", 9, 1)  # and again, saved at 8
    parts = train_and_evaluate(saved_in_time(), tmp_path / "parts")
    assert "Going on from step 8 of 10." in capsys.readouterr().out
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    assert parts["rollbacks"] == whole["rollbacks"] == 1
    both = zip(records(tmp_path / "parts"), records(tmp_path / "whole"), strict=True)
    for ours, theirs in both:
        for name in ("images_per_second", "waiting_for_data"):  # differ from run to run
            ours.pop(name), theirs.pop(name)
        assert ours == theirs


def test_after_so_many_rollbacks_a_run_stops(tmp_path, capsys):
    """Without a checkpoint it goes back to the start."""
    config = going_back((0, 1e10), **{"guards.rollback_factor": 1.0, "guards.rollback_times": 2})
    with pytest.raises(Diverged, match=r"In step 2 the loss, .*That was after 2 rollbacks"):
        train_and_evaluate(config, tmp_path)
    said = capsys.readouterr().out
    assert [said.count(f"({time} of 2)") for time in (1, 2, 3)] == [1, 1, 0]
    assert checkpoint.steps_in(tmp_path / "checkpoints") == []


def test_rollbacks_and_the_plateau_rule_lower_the_rates_together():
    plan = types.SimpleNamespace(plateau=optimizer.Plateau(3, 10.0, 3), rollback_factor=2.0)
    seen = dataclasses.asdict(optimizer.PlateauState(0.5, 0, drops=1))
    assert rate_factor(plan, Progress(plateau=seen, rollbacks=2)) == pytest.approx(1 / 40)
    plan.plateau = None
    assert rate_factor(plan, Progress(rollbacks=2)) == 1 / 4


def start_with_an_unlikely_class(workdir, config):
    """A run of no steps whose parameters have `unlikely`; its config's `init` has to name it."""
    from alexnet_jax.training.preprocessing import Augmentation
    from alexnet_jax.training.train_step import Steps

    architecture = architecture_of(config)
    steps = Steps(architecture, 10, optimizer.momentum_sgd(miniature.GROUPS, 0.9),
                  Augmentation(28), miniature.make_mesh(1, 1), seed=0)  # fmt: skip
    state = steps.initial_state()
    output = architecture.layers[-1].name
    bias = unlikely(state.parameters[output]["bias"])
    with checkpoint.Checkpoints(workdir / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(0, changed(state, **{f"{output}_bias": bias}), {})


@pytest.mark.slow
def test_bad_records_are_skipped_counted_and_named(tmp_path, monkeypatch, capsys):
    config = lenet(**{"guards.on_divergence": "skip", "num_steps": 20, "log.every_steps": 10,
                      "init.from_run": str(tmp_path / "start"), "checkpoint.every_steps": 1,
                      "evaluate.every_steps": 50})  # fmt: skip
    start_with_an_unlikely_class(tmp_path / "start", config)
    digits = sources.Digits("train", 32, 1)
    label = {digits.name(record): digits.labels[record] for record in range(len(digits))}
    bad = [step for step in range(1, 21)
           if sum(label[name] == UNLIKELY for name in images_of(step)) > 1]  # fmt: skip
    early = [step for step in bad if step <= 10]
    assert early
    assert len(early) < len(bad) < 20
    killed_at(monkeypatch, config, tmp_path / "run", early[-1] + 2, 1)  # its count is saved
    result = train_and_evaluate(config, tmp_path / "run")
    lines = records(tmp_path / "run")
    assert [line["skipped_steps"] for line in lines] == [len(early), len(bad) - len(early)]
    assert [line["images"] for line in lines] == [
        8 * (10 - line["skipped_steps"]) for line in lines
    ]
    said = capsys.readouterr().out
    for first in (early[0], bad[len(early)]):
        names = ", ".join(images_of(first)[:5])
        assert f"no parameter; the first is step {first:,}, with {names} and 3 more\n" in said
    assert result["validation"]["loss"] == np.inf
    assert [line["loss"] for line in records(tmp_path / "run", "val")] == [None]
    assert strictly((tmp_path / "run/summary.json").read_text())["validation"]["loss"] is None

    # Another choice may follow; what was skipped before is no fault of it, what comes is.
    config.guards.on_divergence, config.num_steps = "stop", 60
    with pytest.raises(Diverged, match=r"In step \d+ the loss") as fault:
        train_and_evaluate(config, tmp_path / "run")
    later = next(step for step in range(21, 61)
                 if sum(label[name] == UNLIKELY for name in images_of(step)) > 1)  # fmt: skip
    assert f"In step {later} " in str(fault.value)


def test_a_loss_that_stays_that_of_guessing_is_warned_of_once(tmp_path, capsys):
    config = lenet(**rates((0, 1e-12)), **{"guards.stalled_steps": 3, "num_steps": 7,
                                           "model.width": 0.1})  # fmt: skip
    train_and_evaluate(config, tmp_path)
    losses = [line["loss"] for line in records(tmp_path)]
    np.testing.assert_allclose(losses, np.log(10), rtol=0.01)
    said = capsys.readouterr().out
    assert said.count("warning: for 3 steps the training loss has stayed at ln(10) = 2.303") == 1
    assert "deviation 0.03 in conv3 to conv5 as in 2012" in said


def test_steps_at_the_loss_of_guessing_are_counted_in_a_row():
    steps = 0
    for loss, expected in ((6.97, 50), (6.85, 100), (6.83, 0), (np.nan, 0), (6.9, 50)):
        steps = divergence.flat_steps(steps, 50, loss, 1000)
        assert steps == expected
    assert divergence.flat_steps(10, 50, 0.0, classes=1) == 0


def test_an_epoch_without_learning_is_long():
    assert plan_of(load("imagenet")).stall_steps == 10_010  # an epoch
    assert plan_of(load("quickstart"), records=1438, classes=10).stall_steps == 500


def test_a_diverged_command_has_its_own_exit_code(capsys):
    def diverge():
        raise Diverged("In step 2 ...")

    with pytest.raises(SystemExit) as end:
        cli.answer(diverge)
    assert end.value.code == EXIT_DIVERGED == 4
    assert capsys.readouterr().err == "error: In step 2 ...\n"


@pytest.mark.slow
def test_two_processes_stop_together_and_go_back_together(tmp_path):
    pairs = "((0, 0.01), (6, 1e10))"
    words = [
        sys.executable, "-m", "alexnet_jax.main", "--config=configs/lenet5.py:relu,smoke",
        f"--workdir={tmp_path}", "--config.num_steps=10", "--config.checkpoint.every_steps=4",
        "--config.optimizer.unit=steps", f"--config.optimizer.learning_rate={pairs}",
        f"--config.optimizer.bias_learning_rate={pairs}", "--config.evaluate.every_steps=50",
    ]  # fmt: skip
    done = launchers.launch("local.sh", "2", *words)
    assert done.returncode == EXIT_DIVERGED, done.stderr
    assert done.stderr.count("error: In step 8 the loss") == 2
    assert "was lost" not in done.stderr
    assert "Traceback" not in done.stderr
    back = ("--config.guards.on_divergence=rollback", "--config.guards.rollback_factor=1e13")
    done = launchers.launch("local.sh", "2", *words, *back)
    assert done.returncode == 0, done.stderr
    assert "(1 of 3)" in done.stdout
    assert strictly((tmp_path / "summary.json").read_text())["rollbacks"] == 1
