"""python -m alexnet_jax model: tables of networks for people."""

import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.tools.model import drawing

ROOT = pathlib.Path(__file__).parent.parent.parent


def show(*words):
    return subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "model", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_list_of_all_networks_with_reported_errors():
    done = show()
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "60,965,224" in lines["net145"]
    assert "40.7 / 18.2" in lines["net145"]
    assert "layers-145.cfg" in lines["net145"]
    assert {"paper", "caffenet", "zfnet", "cifar_11pct", "figure1_tanh"} <= set(lines)


def test_a_table_has_a_line_for_each_layer():
    done = show("net145")
    lines = done.stdout.splitlines()
    conv2 = next(line for line in lines if line.startswith("conv2"))
    assert "convolution 5x5, 256 filters, padding 2" in conv2
    assert conv2.split()[-6:] == ["27x27x128", "5x5x48x128", "307,456", "223,948,800", "186,624",
                                  "3.5"]  # fmt: skip
    assert sum("towers meet" in line for line in lines) == 3
    total = next(line for line in lines if line.startswith("total"))
    assert total.split()[1:] == ["60,965,224", "724,406,816", "659,272"]


def test_a_comparison_marks_what_differs():
    done = show("net145", "--compare", "paper")
    lines = done.stdout.splitlines()[1:]
    text = "\n".join(line for line in lines if any(f"  {mark}" in line for mark in "|<>"))
    assert "alpha 2e-05" in text
    assert "alpha 0.0001" in text
    assert "(weights 0.03, bias 1)" in text
    assert "norm over 5x5 pixels" in text
    assert "conv1" not in text


@pytest.mark.parametrize("name", ["net145.png", "net145.svg"])
def test_a_network_is_drawn(tmp_path, name):
    done = show("net145", "--plot", str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    content = (tmp_path / name).read_bytes()
    if name.endswith("svg"):
        assert content.startswith(b"<?xml")
    else:
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 1200
            colours = len(picture.convert("RGB").getcolors(1 << 20))
            assert colours > 100


def test_volumes_are_to_scale_and_towers_cross_where_they_meet():
    stages = drawing.stages(NETWORKS["net145"], 1000)
    assert [stage.name for stage in stages if stage.crosses] == ["conv3", "fc6", "fc7", "fc8"]
    sizes = {stage.name: stage.size for stage in stages}
    assert sizes["conv1"][1] / sizes["conv3"][1] == 55 / 13
    assert sizes["conv2"][0] / sizes["conv1"][0] == pytest.approx(128 / 48)
    assert sizes["fc6"][1] / sizes["fc8"][1] == pytest.approx(2048 / 1000)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["net154"], "There is no network 'net154': did you mean net15"),
        (["net145", "--compare", "zfnett"], "did you mean zfnet"),
        (["--compare", "net145"], "Name the network to show"),
        (["net145", "--plot", "net145.bmp"], "must end in .png, .svg, .pdf"),
    ],
)
def test_a_mistake_gets_one_sentence(words, sentence):
    done = show(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
