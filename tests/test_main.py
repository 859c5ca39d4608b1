"""The command line: mistakes get one sentence and no traceback, and leave nothing behind."""

import contextlib
import json
import os
import pathlib
import pty
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.loop import train_and_evaluate
from tests.support import commands
from tests.training.test_plan import load

ROOT = pathlib.Path(__file__).parent.parent


def run(*words, cwd=ROOT, **environment):
    """python -m alexnet_jax.main as a user starts it, with XLA's own defaults."""
    clean = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    return subprocess.run(
        [sys.executable, "-m", "alexnet_jax.main", *words],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_sentence(done, sentence):
    assert done.returncode == 2
    assert_is_one(done.stderr, sentence)
    assert "Traceback" not in done.stdout


def assert_is_one(errors, sentence):
    assert errors.startswith("error: ")
    assert sentence in errors
    assert errors.count("\n") == 1


def assert_refused(sentence, *words):
    """The command, in this process, since a start takes longer than all that it does."""
    _, errors = commands.run("train", *words, code=2)
    assert_is_one(errors, sentence)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config=configs/imagnet.py"], "There is no config file 'configs/imagnet.py'"),
        (["--config=configs/imagenet.py:smok"], "unknown option 'smok'"),
        (["--config.bach_size=3"], 'Did you mean "batch_size"'),
        (["--config.data.pth=3"], 'Did you mean "path"'),
        (["--config.batch_size=many"], "--config.batch_size=many"),
        (["--confg=x"], "no flag --confg: did you mean --config?"),
        (["quickstart"], "'quickstart' was not understood"),
        (["--processes=2"], "needs --coordinator"),
        (["--config=configs/imagenet.py"], "add --config.data.path=DIR"),
        (["--config=configs/imagenet.py", "--config.data.path=nowhere"], "nowhere/train is not a"),
        (["--config.model.param_dtype=float64"], "float64 needs JAX_ENABLE_X64=1"),
        (["--config.model.network=alexnet"], "no network 'alexnet': did you mean bvlc_alexnet"),
        (
            ["--config=configs/finetune.py"],
            "name the folder of one with --config.init.from_run=RUN",
        ),
        (["--config.init.from_run=nowhere"], "init.from_run=nowhere is not the folder of a run"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path, words, sentence):
    assert_refused(sentence, *words, f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_a_started_command_ends_with_one_sentence_too(tmp_path):
    done = run("--config.parallel.layout=towers", f"--workdir={tmp_path / 'run'}")
    assert_one_sentence(done, "1 device(s) of this run can't be shared by 2 towers")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_devices_cannot_share_gets_one_sentence(tmp_path):
    sentence = "batch_size=63 is not divisible by the 8 groups of devices"
    assert_refused(sentence, "--config.batch_size=63", f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_help_names_every_flag():
    done = run("--help")
    assert done.returncode == 0
    for flag in ("--config", "--workdir", "--coordinator", "--processes", "--process"):
        assert flag in done.stdout


def image_folder(root):
    """Two classes of two images in both splits."""
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (40, 40), (40 * number, 90, 0)).save(folder / f"{number}.png")
    return root


def no_train_folder(data):
    shutil.rmtree(data / "train")
    return "train is not a folder: expected a prepared set in"


def empty_train_folder(data):
    shutil.rmtree(data / "train")
    (data / "train").mkdir()
    return "train holds no class folders"


def class_without_images(data):
    for path in (data / "train/dog").iterdir():
        path.unlink()
    return "train/dog holds no images"


def file_of_another_kind(data):
    (data / "val/cat/notes.txt").write_text("not an image")
    return "val/cat/notes.txt is not an image"


def broken_image(data):
    (data / "train/dog/2.jpg").write_bytes(b"rubbish")
    return "train/dog/2.jpg could not be decoded"


def unknown_class(data):
    (data / "val/dog").rename(data / "val/wolf")
    return "has a class 'wolf' that the training folder lacks"


@pytest.mark.parametrize(
    "spoil",
    [
        no_train_folder,
        empty_train_folder,
        class_without_images,
        file_of_another_kind,
        broken_image,
        unknown_class,
    ],
)
def test_bad_data_gets_one_sentence(tmp_path, spoil):
    data = image_folder(tmp_path / "data")
    sentence = spoil(data)
    workdir = tmp_path / "new/run"
    flags = ("--config.data.source=folder", "--config.data.on_bad_image=stop")
    assert_refused(sentence, *flags, f"--config.data.path={data}", f"--workdir={workdir}")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("where", ["file/run", "/proc/run"])
def test_a_workdir_that_cannot_be_written_gets_one_sentence(tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    assert_refused(f"{where} can't be written", f"--workdir={tmp_path / where}")


@pytest.mark.slow
def test_a_live_line_at_a_terminal_is_overwritten(tmp_path):
    """The same command on a pseudo-terminal."""
    lead, follow = pty.openpty()
    command = [sys.executable, "-m", "alexnet_jax.main", "--config=configs/lenet5.py:smoke",
               f"--workdir={tmp_path}"]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, stdout=follow, stderr=follow) as process:
        os.close(follow)
        output = b""
        with contextlib.suppress(OSError):  # the other end was closed
            while part := os.read(lead, 4096):
                output += part
    os.close(lead)
    assert process.returncode == 0
    text = output.decode()
    lines = [line.rsplit("\r\x1b[K", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]
    assert "\r\x1b[Kstep 2/3" in text
    assert sum("step 2/3" in line for line in lines) == 0
    assert sum("step 3/3" in line for line in lines) == 1
    assert "Done: 3 steps" in text


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def train(workdir, steps, **fields):
    config = load("lenet5", "smoke")
    config.num_steps, config.evaluate.every_steps = steps, 3
    config.update_from_flattened_dict(fields)
    return train_and_evaluate(config, workdir)


def test_a_run_writes_its_records_and_goes_on(tmp_path, capsys):
    """Three steps, then three more: the same records as six at once, and the same parameters."""
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    train(parts, 3)
    capsys.readouterr()
    train(parts, 6)
    assert "Going on from step 3 of 6." in capsys.readouterr().out
    train(whole, 6)

    ours, theirs = records(parts), records(whole)
    assert [(r["step"], r["split"]) for r in ours] == [
        (1, "train"), (2, "train"), (3, "train"), (3, "val"),
        (4, "train"), (5, "train"), (6, "train"), (6, "val"),
    ]  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        for name in ("images_per_second", "waiting_for_data"):  # differ from run to run
            assert (name in a) == (name in b) == (a["split"] == "train")
            a.pop(name, None), b.pop(name, None)
        assert a == b
    assert set(ours[0]) == {"step", "epoch", "split", "loss", "top1_error", "top5_error",
                            "images", "gradient_norm", "learning_rate",
                            "replaced_images", "skipped_steps"}  # fmt: skip
    summaries = [json.loads((w / "summary.json").read_text()) for w in (parts, whole)]
    assert summaries[0]["parameters_sha256"] == summaries[1]["parameters_sha256"]
    assert summaries[0]["steps"] == 6
    assert summaries[0]["validation"]["images"] == 359
    assert {"seconds", "versions", "hardware", "git_commit"} <= set(summaries[0])

    train(parts, 6)
    assert "Going on from step 6 of 6." in capsys.readouterr().out
    after = json.loads((parts / "summary.json").read_text())
    assert after["parameters_sha256"] == summaries[0]["parameters_sha256"]

    with pytest.raises(UserError, match=r"optimizer.momentum is 0.9 there and 0.8 here"):
        train(parts, 6, **{"optimizer.momentum": 0.8})
    facts = json.loads((parts / "checkpoints/6/facts/facts.json").read_text())
    assert facts["config"]["batch_size"] == 8
    assert {"versions", "git_commit", "data", "identity", "progress"} <= set(facts)
    assert facts["data"]["training"]["images"] == 1438
    assert len(facts["data"]["training"]["fingerprint"]) == 16


@pytest.mark.slow
def test_commands_as_users_compile_them(tmp_path):
    """A run, the same command once more, and another one from the first one's parameters."""
    common = ["--config=configs/lenet5.py:smoke", "--config.num_steps=1"]
    words = [*common, f"--workdir={tmp_path / 'first'}"]
    first = run(*words)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert "step 1/1" in first.stdout
    assert "Going on from step 1 of 1." in run(*words).stdout
    layers = "--config.init.layers=conv1,conv2"
    second = run(*common, f"--workdir={tmp_path / 'second'}", layers, "--config.seed=1",
                 f"--config.init.from_run={tmp_path / 'first'}")  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert "Starting with conv1, conv2 from " in second.stdout


@pytest.mark.slow
def test_a_run_without_tensorflow_and_clu_ends_as_with_them(tmp_path):
    found = []
    for missing in ((), ("tensorflow", "clu")):
        workdir = tmp_path / f"without {len(missing)}"
        code = (
            f"import runpy, sys; sys.modules.update(dict.fromkeys({missing})); "
            f"sys.argv = ['main', '--config=configs/quickstart.py:smoke', '--workdir={workdir}']; "
            "runpy.run_module('alexnet_jax.main', run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
            env=commands.ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("nothing is written for TensorBoard" in done.stdout) == bool(missing)
        found.append(json.loads((workdir / "summary.json").read_text())["parameters_sha256"])
    assert found[0] == found[1]
