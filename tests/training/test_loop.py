"""Every config takes its steps, in this process, from end to end."""

import json

import numpy as np
import pytest

from alexnet_jax.data import images, prepared
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.evaluate import submission
from alexnet_jax.training.loop import train_and_evaluate
from alexnet_jax.training.run_folder import ensure_workdir
from tests.support import layouts
from tests.support.preparing import make
from tests.training.test_plan import NAMES, load

# finetune.py needs a run to start from: test_warm_start.py. Those of the quickstart and of LeNet-5
# are taken by the fixture trained_runs, that of imagenet_fast.py below with all its options.
ELSEWHERE = ("finetune", "quickstart", "lenet5", "imagenet_fast")
CASES = [
    *((name, "smoke") for name in NAMES if name not in ELSEWHERE),
    ("imagenet_fast", "4096,lars,smoothing,average,smoke"),
    ("cifar10", "short,smoke"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_every_config_takes_a_step(tmp_path, name, argument):
    config = load(name, argument)
    config.num_steps = 1
    if config.data.image_size == 256:
        config.model.width = 1 / 16
    result = train_and_evaluate(config, tmp_path)
    assert result["steps"] == 1
    assert result["validation"]["images"] in (16, 359)
    assert json.loads((tmp_path / "summary.json").read_text()) == result


# Each choice once, several in a run, since most of its time is compilation.
CHOICES = [
    {"parallel.layout": "towers", "optimizer.rule": "lars", "optimizer.label_smoothing": 0.1,
     "optimizer.ema_decay": 0.9, "grad_accum_steps": 2, "data.mean_at": "crop"},
    {"parallel.layout": "hybrid", "model.dtype": "bfloat16", "data.units": "standardise",
     "data.mean": "channel", "data.scale": 1.0, "data.augmentation_group_size": 32,
     "evaluate.views": "ten"},
    {"model.towers": 1, "model.activation": "tanh", "model.dropout_scales": "training",
     "data.units": "min_max", "data.mean": "none", "data.scale": 1.0,
     "data.colour_noise_steps": 1, "num_steps": 2, "evaluate.every_epochs": None,
     "checkpoint.every_epochs": None},
]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [CHOICES[0], *(pytest.param(change, marks=pytest.mark.slow) for change in CHOICES[1:])],
)
def test_every_choice_takes_a_step(tmp_path, change):
    config = load("quickstart", "smoke")
    config.num_steps = 1
    config.data.source, config.data.records = "synthetic", 16
    config.update_from_flattened_dict(change)
    assert train_and_evaluate(config, tmp_path)["steps"] >= 1


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_the_plateau_rule_lowers_all_rates_and_goes_on_after_a_restart(tmp_path):
    """With next to no rate nothing improves: the evaluations after the first one divide, twice."""

    def train(name, steps):
        config = load("lenet5", "smoke")
        config.num_steps = steps
        config.evaluate.every_steps, config.checkpoint.every_epochs = 2, None
        config.data.source, config.data.records = "synthetic", 32
        config.optimizer.schedule = "plateau"
        config.optimizer.plateau.patience, config.optimizer.plateau.times = 1, 2
        config.optimizer.learning_rate = ((0, 1e-9),)
        config.optimizer.bias_learning_rate = ((0, 2e-9),)
        return train_and_evaluate(config, tmp_path / name)

    whole = train("whole", 10)
    rates = [r["learning_rate"] for r in records(tmp_path / "whole") if r["split"] == "train"]
    drops = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    np.testing.assert_allclose([r["weights"] for r in rates], [1e-9 / 10**d for d in drops])
    np.testing.assert_allclose([r["biases"] for r in rates], [2e-9 / 10**d for d in drops])
    train("parts", 6)
    parts = train("parts", 10)
    assert parts["parameters_sha256"] == whole["parameters_sha256"]
    for ours, theirs in zip(records(tmp_path / "parts"), records(tmp_path / "whole"), strict=True):
        assert ours.get("learning_rate") == theirs.get("learning_rate")


def test_a_run_ends_well_where_nothing_can_be_written_down(tmp_path, capsys):
    """Folders and files of the same names are in the way; checkpoints alone have to work."""
    for name in ("metrics.jsonl", "summary.json"):
        (tmp_path / name / "x").mkdir(parents=True)
    (tmp_path / "tensorboard").write_text("")
    config = load("lenet5", "smoke")
    config.log.pictures_every_steps = config.log.histograms_every_steps = 1
    assert train_and_evaluate(config, tmp_path)["steps"] == 3
    output = capsys.readouterr().out
    assert output.count("warning: metrics can't be written, the run goes on without") == 1
    assert output.count("warning: summary.json can't be written") == 1
    assert (tmp_path / "checkpoints/3").is_dir()


@pytest.mark.parametrize("name", ["a[b]c", "a**"])
def test_a_folder_that_orbax_would_take_for_a_pattern_is_refused(tmp_path, name):
    """It would find none of the parts that it has to put together."""
    with (
        pytest.raises(UserError, match=r"has \[ or \*\* in its path, where Orbax can't save"),
        ensure_workdir(tmp_path / name / "run"),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.fixture
def damaged(tmp_path, data):
    """A prepared set of 14 + 4 images at 32 pixels, one record of each split unreadable."""
    source = layouts.imagenet_tars(tmp_path, data)
    make(source, tmp_path / "set", size=32)
    for split in ("train", "val"):
        file = next((tmp_path / "set").glob(f"*-{split}.array_record*"))
        content = bytearray(file.read_bytes())
        at = content.index(b"\xff\xd8\xff") + 640
        content[at : at + 60] = bytes(60)
        file.write_bytes(content)
    return tmp_path / "set"


def on_disk(folder, **changed):
    config = load("figure1", "smoke")
    config.data.source, config.data.path = "folder", str(folder)
    config.num_steps = 7  # of 8 images: four epochs
    config.update_from_flattened_dict(changed)
    return config


def test_unreadable_images_are_replaced_counted_and_named(damaged, tmp_path, capsys):
    result = train_and_evaluate(on_disk(damaged), tmp_path / "run")
    lines = records(tmp_path / "run")
    replaced = [line["replaced_images"] for line in lines if line["split"] == "train"]
    assert sum(replaced) == 4
    said = capsys.readouterr().out
    names = {split: bad_name(damaged, split) for split in ("train", "val")}
    assert said.count(f"warning: the image {names['train']} can't be read: in step") == 1
    assert f"warning: {names['val']} can't be read and counts as wrong" in said
    assert result["validation"]["images"] == 4
    assert result["validation"]["top5_error"] >= 1 / 4
    assert result["data"]["training"]["images"] == 14


def bad_name(folder, split):
    source = prepared.Prepared(folder, split, 32, 3)
    for record in range(len(source)):
        try:
            source.load([record])
        except images.BadImage:
            return source.name(record)
    raise AssertionError("every image can be read")


def test_an_unreadable_image_stops_a_run_that_wants_it_so(damaged, tmp_path):
    config = on_disk(damaged, **{"data.on_bad_image": "stop"})
    with pytest.raises(
        UserError, match=f"The prepared image {bad_name(damaged, 'train')} can't be read"
    ):
        train_and_evaluate(config, tmp_path / "run")


def test_a_submission_has_ilsvrcs_ids_in_order_of_file_name(tmp_path, data):
    make(layouts.imagenet_tars(tmp_path, data), tmp_path / "set", size=32)
    source = prepared.Prepared(tmp_path / "set", "val", 32, 3)
    likely = np.log(np.random.default_rng(0).dirichlet(np.ones(3), len(source)))
    assert submission.write_submission(tmp_path / "guesses.txt", source, likely) == "ILSVRC2012_IDs"
    lines = (tmp_path / "guesses.txt").read_text().splitlines()
    names = sorted(name for files in data["val"].values() for name in files)
    by_name = {source.name(record): likely[record] for record in range(len(source))}
    for line, name in zip(lines, names, strict=True):
        best_first = sorted(range(3), key=lambda label: -by_name[name][label])
        assert line == " ".join(str([3, 2, 1][label]) for label in best_first)
