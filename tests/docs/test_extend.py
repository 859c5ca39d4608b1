"""docs/extend.md is a program: its blocks are one file, which trains and is opened elsewhere."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import alexnet_jax as ax
from alexnet_jax.runtime import user_code
from tests.support import commands

PAGE = (commands.ROOT / "docs/extend.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """own/stripes.py, the run that it trained, and elsewhere/ with two images to be told apart."""
    root = tmp_path_factory.mktemp("extend")
    for name in ("own", "elsewhere"):
        (root / name).mkdir()
    program = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S))
    (root / "own/stripes.py").write_text(program)
    wave = np.uint8(100) * (np.arange(16, dtype=np.uint8) // 2 % 2)
    for name, image in (("rows", np.tile(wave[:, None], 16)), ("columns", np.tile(wave, (16, 1)))):
        Image.fromarray(image + np.uint8(50)).save(root / "elsewhere" / f"{name}.png")
    output, _ = commands.run("train", "--config=stripes.py", "--workdir=run", cwd=root / "own")
    assert "stripes_net, two towers, input 14x14x1, 2 classes" in output
    assert "affine1" in output
    return root


@pytest.mark.slow
def test_every_command_opens_the_run_from_another_folder(folder):
    elsewhere = folder / "elsewhere"
    network = ["--workdir=../own/run", "--code=../own/stripes.py"]
    output, _ = commands.run("evaluate", *network, cwd=elsewhere)
    assert re.search(r"64 images, views: center\n.*\n.* 0\.00% ", output)
    output, _ = commands.run("predict", *network, "rows.png", "columns.png", cwd=elsewhere)
    assert re.findall(r"█ +(rows|columns)$", output, re.M)[0] == "rows"
    commands.run("convert", *network, "--to=stripes.safetensors", cwd=elsewhere)
    of_file = ["--weights=stripes.safetensors", network[1]]
    again, _ = commands.run("predict", *of_file, "rows.png", "columns.png", cwd=elsewhere)
    assert again.splitlines()[:-1] == output.splitlines()[:-1]
    commands.run("features", *of_file, "--layer=affine1", "--output=f.npz", "rows.png",
                 cwd=elsewhere)  # fmt: skip
    assert np.load(elsewhere / "f.npz")["features"].shape == (1, 14, 14, 8)
    _, error = commands.run("convert", *network, "--to=stripes.onnx", cwd=elsewhere, code=2)
    assert "its Swish is a layer that no other program has" in error


@pytest.mark.slow
def test_the_library_opens_it_too(folder):
    net = ax.load(folder / "own/run")
    image = folder / "elsewhere/columns.png"
    assert net.predict(image)[0][0].name == "columns"
    images = net.inputs(image)
    features = net.features(images, ("conv1", "affine1", "fc2"))
    x = np.asarray(features["conv1"], np.float64)
    affine = net.trained.parameters["affine1"]
    factor, summand = (affine[kind].reshape(-1) for kind in ("kernel", "bias"))
    np.testing.assert_allclose(features["affine1"], x * (1 + factor) + summand, rtol=1e-5)


@pytest.mark.slow
def test_without_its_code_the_run_is_refused_by_the_name_of_what_is_missing(folder):
    command = commands.words("predict", "--workdir=../own/run", "rows.png")
    environment = commands.ENVIRONMENT | {"PYTHONPATH": str(commands.ROOT)}
    options = {"cwd": folder / "elsewhere", "env": environment, "text": True,
               "capture_output": True, "check": False}  # fmt: skip
    done = subprocess.run(command, **options)
    assert done.returncode == 2
    assert "a layer of the kind Swish" in done.stderr
    assert "--code=FILE.py" in done.stderr
    done = subprocess.run([*command, "--code=../own/stripes.py"], **options)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_network_of_this_projects_layers_needs_no_code(folder):
    """Its file is gone when the run is opened, and a command line can't name another network."""
    text = (folder / "own/stripes.py").read_text()
    for line in ("            Swish(slope=1.5),\n", '            Affine("affine1"),\n'):
        text = text.replace(line, "")
    text = text.replace("Swish()", "Tanh()").replace("    MaxPool,\n", "    MaxPool,\n    Tanh,\n")
    text = text.replace('config.data.source = "stripes"', 'config.data.source = "synthetic"')
    file = folder / "own/plain.py"
    file.write_text(text.replace('"sign_momentum"\n', '"adamw"\n', 1))
    words = [f"--config={file}", "--config.num_steps=1", "--config.data.records=32"]
    elsewhere = folder / "elsewhere"
    _, error = commands.run("train", *words, "--config.model.network=net145", cwd=elsewhere, code=2)
    assert "defines one by get_network(): leave one of the two" in error
    commands.run("train", *words, "--workdir=plain", cwd=elsewhere)
    file.unlink()
    output, _ = commands.run("evaluate", "--workdir=plain", cwd=elsewhere)
    assert "stripes_net" in output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 / 0\n", "own.py stopped at line 1 with ZeroDivisionError: division by zero"),
        ("\nimport nothing_of_this_name\n", "own.py stopped at line 2 with ModuleNotFoundError"),
        ("def\n", "own.py stopped at line 1 with SyntaxError"),
        (None, "There is no Python file .*own.py"),
    ],
)
def test_code_that_fails_is_told_by_file_and_line(tmp_path, text, sentence):
    file = tmp_path / "own.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ax.UserError, match=sentence):
        user_code.load(str(file))
    assert not [name for name in sys.modules if str(file) in name]
