"""python -m alexnet_jax evaluate: what it writes, what it follows and what it refuses."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import log_loss

from alexnet_jax.data import sources
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from alexnet_jax.tools import inference, load
from alexnet_jax.tools.convert import run_folder
from alexnet_jax.tools.evaluate import follow as following
from alexnet_jax.tools.evaluate import member
from alexnet_jax.tools.evaluate.member import Choice
from alexnet_jax.training import checkpoint, checkpoint_integrity
from tests.support import evaluated, weighted
from tests.test_main import assert_one_sentence

ROOT = pathlib.Path(__file__).parent.parent.parent
QUIET = Terminal(speaks=False)


def run(*words):
    """The command as a user starts it, on one device."""
    clean = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "evaluate", *words],
        cwd=ROOT, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_an_ensemble_from_the_command_line(trained_runs, tmp_path):
    workdirs = [trained_runs / name for name in evaluated.RUNS]
    file = tmp_path / "found.json"
    done = run(
        f"--workdir={workdirs[0]},{workdirs[1]}", "--step=2,3", "--member_weights=1,3",
        f"--json={file}", "--batch_size=50",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(file.read_text())
    parts = [
        evaluated.probabilities(workdir, step, "center")
        for workdir, step in zip(workdirs, (2, 3), strict=True)
    ]
    expected = 0.25 * parts[0] + 0.75 * parts[1]
    labels = sources.Digits("val", 32, 3).labels
    assert found["scores"]["images"] == sum(one["images"] for one in found["classes"]) == 359
    assert found["scores"]["loss"] == pytest.approx(log_loss(labels, expected), rel=1e-4)
    assert found["weights"] == [0.25, 0.75]
    assert [one["step"] for one in found["members"]] == [2, 3]
    assert [one["network"] for one in found["members"]] == list(evaluated.RUNS)
    assert {"split", "views", "confused", "versions", "hardware", "git_commit"} <= set(found)
    for workdir in workdirs:
        assert f"\n{workdir}  " in done.stdout
    for words in ("together", "Worst classes", "Most often confused", f"In {file}"):
        assert words in done.stdout
    summary = json.loads((workdirs[1] / "summary.json").read_text())
    own = found["members"][1]
    assert own["parameters_sha256"] == summary["parameters_sha256"]
    assert own["scores"]["loss"] == pytest.approx(summary["validation"]["loss"], rel=1e-5)
    assert own["scores"]["top1_error"] == summary["validation"]["top1_error"]


@pytest.mark.slow
def test_an_opened_run_says_what_its_files_say(trained_runs):
    for name in evaluated.RUNS:
        trained = load.from_run(trained_runs / name, "2")
        assert trained.classes == tuple("0123456789")
        assert trained.variant.network == name
        source = sources.Digits("val", trained.pixels.size, trained.architecture.channels)
        images, _ = source.load(range(20))
        found = np.exp(inference.log_probabilities(trained, "ten")(trained.parameters, images))
        expected = evaluated.probabilities(trained_runs / name, 2, "ten")[:20]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    for workdir, weights in ((None, None), ("run", "file")):
        with pytest.raises(UserError, match="Which network"):
            load.from_flags(workdir, None, weights)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(trained_runs, tmp_path):
    """Seven images at a time of 359, shared by two processes: the last batch is padded."""
    names = ",".join(str(trained_runs / name) for name in evaluated.RUNS)
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    assert run(f"--workdir={names}", f"--json={one}").returncode == 0
    clean = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    command = [str(ROOT / "launch/local.sh"), "2", sys.executable, "-m", "alexnet_jax", "evaluate",
               f"--workdir={names}", f"--json={two}", "--batch_size=14"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads(file.read_text()) for file in (two, one))
    assert ours["scores"]["loss"] == pytest.approx(theirs["scores"]["loss"], rel=1e-5)
    for part in ("classes", "confused"):
        assert ours[part] == theirs[part]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "No run was named: add --workdir=DIR"),
        (["--workdir=a,b", "--step=1,2,3"], "--step names 3 steps for 2 run(s)"),
        (["--workdir=a", "--search"], "--search looks for weights of several runs"),
        (["--workdir=a,b", "--search", "--member_weights=1,2"], "leave --member_weights out"),
        (["--workdir=a,b", "--follow"], "--follow scores every checkpoint of one run"),
        (["--workdir=a", "--follow", "--step=3"], "leave --step out"),
        (["--workdir=a", "--views=five"], "<center|ten|all>"),
        (["--workdir=a", "--batch_size=0"], "--batch_size"),
        (["--workdir=a", "--json=nowhere/x.json"], "name a file in a folder that exists"),
        (["--workdir=a", "--wiews=ten"], "did you mean --views?"),
        (["--workdir=nowhere"], "--workdir=nowhere is not a folder"),
    ],
)
def test_a_mistake_gets_one_sentence(words, sentence):
    assert_one_sentence(run(*words), sentence)


def test_checkpoints_are_found_by_number_best_or_latest(trained_runs, tmp_path):
    workdir = trained_runs / "lenet5"
    assert checkpoint.steps_in(workdir / "checkpoints") == [2, 3]
    assert load.find_checkpoint(workdir, "2") == (2, "")
    assert load.find_checkpoint(workdir, "latest") == (3, "newest")
    best = checkpoint.facts_at(workdir / "checkpoints", 3)["progress"]["best"]["step"]
    assert load.find_checkpoint(workdir, "best") == (best, "best")
    assert load.find_checkpoint(workdir, None) == (best, "best")
    for wanted in ("4", "newest", "-2"):
        with pytest.raises(UserError, match=r"holds checkpoints of the steps 2, 3; name one"):
            load.find_checkpoint(workdir, wanted)
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        load.find_checkpoint(tmp_path, None)


def test_where_the_best_is_gone_the_newest_is_taken(trained_runs, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained_runs / "lenet5/checkpoints/2", workdir / "checkpoints/2")
    file = workdir / "checkpoints/2/facts/facts.json"
    facts = json.loads(file.read_text())
    facts["progress"]["best"] = {"step": 1, "top1_error": 0.1}
    file.write_text(json.dumps(facts))
    checkpoint_integrity.write(workdir / "checkpoints/2", checkpoint.LATER)
    assert load.find_checkpoint(workdir, None) == (2, "newest")
    with pytest.raises(UserError, match="does not keep its best checkpoint, only those"):
        load.find_checkpoint(workdir, "best")


def facts_of(workdir):
    return checkpoint.facts_at(workdir / "checkpoints", 3)


def test_what_a_run_needs_and_lacks_is_said(trained_runs, tmp_path):
    workdir = trained_runs / "lenet5"
    facts = facts_of(workdir)
    with pytest.raises(UserError, match="--split=test: expected train or val"):
        member.open_member(workdir, facts, Choice(split="test"), QUIET)
    with pytest.raises(UserError, match=r"statistics.npz is missing"):
        member.open_member(tmp_path, facts, Choice(), QUIET)
    with pytest.raises(UserError, match="batch_size=63 is not divisible by the 8 groups"):
        member.open_member(workdir, facts, Choice(batch_size=63), QUIET)
    fewer = facts | {"identity": facts["identity"] | {"model.num_classes": 9}}
    with pytest.raises(UserError, match="has 10 classes, but the network of .* knows 9"):
        member.open_member(workdir, fewer, Choice(), QUIET)


def test_other_data_unknown_fields_and_steps_in_parts_are_no_obstacle(trained_runs, capsys):
    workdir = trained_runs / "lenet5"
    facts = facts_of(workdir)
    facts["data"]["validation"]["fingerprint"] = "another"
    del facts["config"]["evaluate"]["views"], facts["config"]["data"]["units"]
    facts["config"]["grad_accum_steps"] = 3  # which do not divide the batch here
    member.open_member(workdir, facts, Choice(), Terminal())
    said = capsys.readouterr().out
    assert "warning: these are not the validation images" in said
    assert "and was another" in said


def test_a_finished_run_is_followed_to_its_end_and_scored_once(trained_runs, tmp_path, capsys):
    workdir, file = trained_runs / "lenet5", tmp_path / "results.json"
    found = following.follow(workdir, Choice(), file, Terminal())
    assert json.loads(file.read_text()) == json.loads(json.dumps(found))
    assert [one["members"][0]["step"] for one in found] == [2, 3]
    summary = json.loads((workdir / "summary.json").read_text())
    np.testing.assert_allclose(found[1]["scores"]["loss"], summary["validation"]["loss"], rtol=1e-5)
    assert "step 3: loss" in capsys.readouterr().out
    again = following.follow(workdir, Choice(), file, Terminal())
    assert len(again) == 2
    assert "step 3: 0 new, 2 known before" in capsys.readouterr().out


def test_a_run_is_followed_while_it_goes_on(trained_runs, tmp_path, monkeypatch, capsys):
    """Checkpoint 2 is deleted while it is read; checkpoint 3 and the summary come later."""
    origin, workdir = trained_runs / "lenet5", tmp_path / "run"
    shutil.copytree(origin / "checkpoints/2", workdir / "checkpoints/2")
    shutil.copy(origin / "statistics.npz", workdir)
    waited = []

    def wait(seconds):
        waited.append(seconds)
        shutil.copytree(origin / "checkpoints/3", workdir / "checkpoints/3")
        shutil.copy(origin / "summary.json", workdir)

    read = checkpoint.parameters_at

    def deleted_at_2(folder, step, shapes):
        if step == 2:
            shutil.rmtree(folder / "2")
        return read(folder, step, shapes)

    monkeypatch.setattr(checkpoint, "parameters_at", deleted_at_2)
    found = following.follow(workdir, Choice(), None, Terminal(), wait)
    assert [one["members"][0]["step"] for one in found] == [3]
    assert len(waited) == 1
    said = capsys.readouterr().out
    assert "The checkpoint of step 2 was deleted before it was read." in said
    assert "Waiting for checkpoints in" in said


def test_what_cannot_be_followed_is_refused(trained_runs, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        following.follow(tmp_path / "nowhere", Choice(), None, QUIET)
    file = tmp_path / "other.json"
    for content in ('{"split": "val"}', "[1]", "rubbish", '[{"members": [], "split": "val"}]'):
        file.write_text(content)
        with pytest.raises(UserError, match="something else than the list of an earlier --follow"):
            following.follow(trained_runs / "lenet5", Choice(), file, QUIET)


def test_labels_follow_the_names_of_classes(tmp_path, capsys):
    for name in ("cat", "emu"):
        weighted.photographs(tmp_path / "val" / name, 2)
    source = sources.Folder(tmp_path, "val", 32, 3)
    loud = Terminal()
    one = member._with_labels_of(source, ["ant", "cat", "dog", "emu"], tmp_path, loud)
    assert list(one.labels) == [1, 1, 3, 3]
    pixels, labels = one.load([3, 0])
    assert list(labels) == [3, 1]
    assert np.array_equal(pixels, source.load([3, 0])[0])
    assert (len(one), one.name(2), one.size) == (4, source.name(2), 32)
    assert member._with_labels_of(source, None, tmp_path, loud) is source
    assert member._with_labels_of(source, ["cat", "emu"], tmp_path, loud) is source
    assert capsys.readouterr().out == ""
    assert member._with_labels_of(source, ["0", "1"], tmp_path, loud) is source
    assert "has no class 'cat'; its 2 classes are taken to be" in capsys.readouterr().out
    with pytest.raises(UserError, match="has a class 'emu', which .* does not know"):
        member._with_labels_of(source, ["ant", "bee", "cat"], tmp_path, loud)


@pytest.mark.slow
def test_some_classes_of_an_imported_network_are_evaluated(tmp_path):
    """The network has ten classes, the folder three of them; predict counts by folder names."""
    run_folder.write_run_folder(
        tmp_path / "run", weighted.trained("quickstart", width=1 / 4, size=32)
    )
    for seed, name in enumerate(("class 2", "class 5", "class 6")):
        for split in ("train", "val"):
            weighted.photographs(tmp_path / "set" / split / name, 8, seed=seed)
    done = run(f"--workdir={tmp_path / 'run'}", f"--path={tmp_path / 'set'}", "--views=ten",
               f"--json={tmp_path / 'one.json'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    predicted = subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "predict", f"--workdir={tmp_path / 'run'}",
         "--views=ten", f"--json={tmp_path / 'other.json'}", str(tmp_path / "set/val")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    one, other = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "other"))
    assert "of 24 in a class folder" in predicted.stdout
    for error in ("top1_error", "top5_error"):
        assert one["scores"][error] == pytest.approx(other[error])
    assert 0 < other["top5_error"] < 1
    assert [each["class"] for each in one["classes"]] == ["class 2", "class 5", "class 6"]
