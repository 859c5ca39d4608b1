"""Every command of the README as it stands there, in a folder that has what it names, in small.

Launch scripts have tests of their own (test_launch*.py).
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from alexnet_jax.model.networks import Variant
from tests.data.test_sources import make_folder
from tests.support import (
    caffemodel,
    commands,
    convnet2012,
    drawing,
    layouts,
    preparing,
    python2,
    weighted,
)

README = (commands.ROOT / "README.md").read_text()
PROGRAM = ".venv/bin/python -m alexnet_jax"
SMALL = ["--config.model.width=0.05", "--config.batch_size=2"]
CUT = ["--network=lenet5_28", "--width=0.5", "--batch_size=4", "--steps=1"]
PREPARE = ["--image_size=64", "--output=PREPARED", "--name=mini"]

# The command, without the program's name: what replaces its words, and what is added.
# Words are replaced where they stand for something: DIR, or a set that has to be downloaded.
SMOKE = {
    "reproduce": {},
    "model": {},
    "model net145": {},
    "model net145 --compare paper": {},
    "model net145 --plot net145.png": {},
    "prepare --source=imagenet_tars:DIR": {"DIR": "TARS", "+": PREPARE},
    "prepare --source=folder:DIR": {"DIR": "CLASSES", "+": PREPARE},
    "prepare --source=parquet:DIR": {"DIR": "PARQUET", "+": PREPARE},
    "prepare --source=tfds:imagenet2012": {"imagenet2012": "miniature", "+": PREPARE},
    "benchmark input --path=OUTPUT": {"+": ["--batch_size=4", "--turns=1", "--seconds=0.1"]},
    ".main --config=configs/imagenet.py --workdir=WORKDIR": {
        "imagenet.py": "imagenet.py:smoke", "WORKDIR": "NEW", "+": SMALL},
    "benchmark step --against=torch": None,  # benchmark/test_step_benchmark.py runs these two
    "benchmark train --path=OUTPUT": {
        "+": ["--config=configs/imagenet.py", "--config.data.image_size=64", "--steps=1",
              "--config.model.network=quickstart", "--config.batch_size=8"]},
    "benchmark gpu --json=FILE": None,
    "evaluate --workdir=WORKDIR --views=ten --json=FILE": {"FILE": "NEW"},
    "evaluate --workdir=WORKDIR,WORKDIR,... --views=ten": {",...": ""},
    "evaluate --workdir=WORKDIR --follow --json=FILE": {"FILE": "NEW"},
    "predict --workdir=WORKDIR IMAGE...": {"IMAGE...": "IMAGE"},
    "features --workdir=WORKDIR --output=TRAIN.npz --layer=fc7 IMAGE...": {
        "IMAGE...": "IMAGE", "fc7": "fc6", "TRAIN.npz": "NEW.npz"},
    "neighbours --features=TRAIN.npz --workdir=WORKDIR IMAGE...": {"IMAGE...": "IMAGE"},
    "visualize filters --workdir=WORKDIR --output=FILE.png": {},
    "visualize curves --workdir=A,B --output=FILE.svg": {"A,B": "WORKDIR,RUN"},
    "visualize activations IMAGE --workdir=WORKDIR --output=FILE.png": {},
    "visualize augmentation IMAGE ...": {"...": "--workdir=WORKDIR --output=FILE.png"},
    "visualize saliency IMAGE ...": {
        "...": "--workdir=WORKDIR --output=FILE.png", "+": ["--stride=8"]},
    "visualize maximise --class=3 ...": {
        "...": "--workdir=WORKDIR --output=FILE.png", "+": ["--steps=3"]},
    "visualize confusion --json=FILE --output=FILE.png": {},
    "convert FILE --to=OUT": {"FILE": "alexnet.safetensors"},
    "convert bvlc_alexnet.caffemodel --mean=imagenet_mean.binaryproto --to=DIR": {"DIR": "NEW"},
    "convert alexnet.pth --to=alexnet.safetensors": {"alexnet.safetensors": "NEW.safetensors"},
    "convert CHECKPOINT_OF_2012 --mean=batches.meta --to=net145.onnx": {},
    "convert --workdir=WORKDIR --to=FILE.pth": {},
}  # fmt: skip
TRAIN = ".main --config=configs/imagenet.py --workdir=WORKDIR"
TUNE = ".main --config=configs/finetune.py --config.init.from_run=RUN --config.data.path=DIR"
TUNED = {"finetune.py": "finetune.py:smoke", "=DIR": "=CLASSES"}
SMOKE |= {
    f"{TRAIN} --config.parallel.layout={layout}": SMOKE[TRAIN] for layout in ("towers", "hybrid")
}
SMOKE |= {
    f"{TUNE}{words}": TUNED | changes
    for words, changes in {
        "": {},
        " --config.data.hold_out=5": {"=CLASSES": "=FLAT", "=5": "=2"},
        " --config.optimizer.freeze=conv1,conv2": {},
        " --config.init.skip=fc7": {"fc7": "fc6"},
        " --config.optimizer.layers=\"{'conv1': {'factor': 0.1}}\"": {},
    }.items()
}


def in_the_readme():
    """The commands of its blocks, tables and sentences, $TRAIN and $TUNE written out."""
    found = []
    for name, words in re.findall(r'^    (\w+)="(.*)"$', README, re.MULTILINE):
        found.append((f"${name}", words))
    text = README
    for name, words in found:
        text = re.sub(rf'^    {name[1:]}=".*"$', "", text, flags=re.MULTILINE)
        text = re.sub(rf"^    (?:\w+=\S+ )?\{name}\b", f"    {words}", text, flags=re.MULTILINE)
    lines = re.findall(rf"^    (?:\w+=\S+ )?{re.escape(PROGRAM)}(.*)$", text, re.MULTILINE)
    lines += re.findall(r"^\| `(\w+ .*?)` \|", text, re.MULTILINE)
    lines += re.findall(r"`(?:\.venv/bin/)?python -m alexnet_jax([. ]\w[^`]*)`", text)
    return {re.split(r"\s+# ", line)[0].strip() for line in lines}


def test_every_command_of_the_readme_has_its_smoke_form():
    commands_there = in_the_readme()
    assert len(commands_there) > 35
    assert commands_there == set(SMOKE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: a checkout, and everything that the README's commands name."""
    place = tmp_path_factory.mktemp("readme")
    for name in ("alexnet_jax", "configs", "docs"):
        (place / name).symlink_to(commands.ROOT / name)
    images = layouts.small_set()
    layouts.imagenet_tars(place / "TARS", images)
    layouts.parquet(place / "PARQUET", images)
    preparing.make(layouts.folder(place / "files", images), place / "OUTPUT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(place))
        layouts.tfds_array_record(place, images)
    make_folder(place / "CLASSES", np.random.default_rng(0), each=8)
    shutil.copytree(place / "CLASSES" / "train", place / "FLAT")
    photographs = weighted.photographs(place / "photographs", 8)
    (place / "IMAGE").write_bytes(photographs[0].read_bytes())
    variant = Variant("cifar_18pct")
    checkpoint = convnet2012.checkpoint(variant.architecture())
    (place / "CHECKPOINT_OF_2012").write_bytes(python2.dumps(checkpoint))
    mean = np.full((3072, 1), 120, np.float32)
    (place / "batches.meta").write_bytes(python2.dumps({"data_mean": mean}))
    architecture = Variant("bvlc_alexnet").architecture()
    model = caffemodel.caffemodel(architecture, drawing.weights(architecture, 10))
    (place / "bvlc_alexnet.caffemodel").write_bytes(model)
    (place / "imagenet_mean.binaryproto").write_bytes(
        caffemodel.binaryproto(np.full((3, 256, 256), 120.0, np.float32))
    )
    start(place, ".main --config=configs/quickstart.py:smoke --workdir=WORKDIR")
    shutil.copytree(place / "WORKDIR", place / "RUN")
    start(place, "evaluate --workdir=WORKDIR --json=FILE")
    start(place, "features --workdir=WORKDIR --output=TRAIN.npz --layer=fc6 photographs")
    start(place, "convert --workdir=WORKDIR --to=alexnet.safetensors")
    return place


def start(place, command):
    """Run a command there; its standard output. Training alone is a process of its own."""
    environment = {"TFDS_DATA_DIR": str(place)}
    if command[0] != ".":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TFDS_DATA_DIR", str(place))
            return commands.run(*shlex.split(command), cwd=place)[0]
    environment["JAX_NUM_CPU_DEVICES"] = "2" if "layout" in command else "1"
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(f"alexnet_jax{command}")],
        cwd=place, env=commands.ENVIRONMENT | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in SMOKE if SMOKE[command] is not None])
def test_a_command_of_the_readme_runs(folder, command):
    if ".pth" in command:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    for name in ("NEW", "PREPARED", "OUT", "runs"):  # of the test before
        shutil.rmtree(folder / name, ignore_errors=True)
        if (folder / name).is_file():
            (folder / name).unlink()
    if command.startswith("convert alexnet.pth"):
        start(folder, "convert --workdir=WORKDIR --to=alexnet.pth")
    smoke = command
    for word, instead in SMOKE[command].items():
        if word != "+":
            assert word in smoke
            smoke = smoke.replace(word, instead)
    before = set(os.listdir(folder))
    said = start(folder, f"{smoke} {' '.join(SMOKE[command].get('+', []))}")
    named = re.findall(r"--(?:output|to|plot|json|workdir)[= ](\S+)", smoke)
    written = [folder / name for name in named if not re.match("WORKDIR|RUN", name)]
    assert said.strip() or written
    for path in written:
        assert pathlib.Path(path).exists(), sorted(set(os.listdir(folder)) - before)
