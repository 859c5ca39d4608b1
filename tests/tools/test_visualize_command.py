"""python -m alexnet_jax visualize: every page from a run to a picture, and what is said instead."""

import functools

import pytest
from PIL import Image

from alexnet_jax.weights import safetensors
from tests.support import commands, weighted

visualize = functools.partial(commands.run, "visualize")


def test_help_lists_the_pages_and_each_its_flags():
    said, _ = visualize("--help")
    for page in ("filters", "curves", "activations", "augmentation", "confusion", "saliency",
                 "maximise"):  # fmt: skip
        assert f"\n  {page} " in said
    said, _ = visualize("saliency", "--help")
    assert "Zeiler and Fergus" in said
    assert "--stride" in said
    assert "--workdir" in said
    assert "--steps" not in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "No page was named: The first word is one of filters"),
        (["filtres"], "There is no page 'filtres': did you mean filters?"),
        (["curves", "--workdir=a"], "Where to? Add --output=FILE"),
        (["curves", "--workdir=a", "--output=x.jpg"], "x.jpg is no name for a picture: end it in"),
        (["curves", "--workdir=a", "--output=no/x.png"], "name a file in a folder that exists"),
        (["filters", "--tyle=3"], "did you mean --tile?"),
    ],
)
def test_a_mistake_gets_one_sentence(words, sentence):
    said, warned = visualize(*words, code=2)
    assert warned.startswith("error: ")
    assert warned.count("\n") == 1
    assert sentence in warned
    assert not said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["filters"], "Which network? Name a training run with --workdir=DIR or"),
        (["filters", "more", "--weights=W"], "'more' was not understood"),
        (["filters", "--weights=none"], "There is no file none"),
        (["activations", "--weights=W"], "Expected the file of one image, but 0 were named"),
        (["activations", "no.png", "--weights=W"], "The image no.png can't be read"),
        (["activations", "I", "--weights=W", "--layer=conv9"], "has no activations 'conv9'"),
        (["augmentation", "I"], "No run was named: add --workdir=DIR"),
        (["confusion"], "Whose confusions? Add --json=FILE"),
        (["confusion", "--json=none"], "none can't be read (No such file or directory)"),
        (["saliency", "I", "--weights=W", "--square=99"], "must be at most the 32 pixels"),
        (["saliency", "I", "--weights=W", "--label=class"], "did you mean 'class"),
        (["maximise", "--weights=W"], "What is to be maximised? Name classes with --class"),
        (["maximise", "--weights=W", "--layer=fc3", "--unit=x"], "--unit=x is no number"),
        (["filters", "--weights=W", "--raw"], "can't hold bare pixels: end its name in .png"),
    ],
)
def test_what_a_page_lacks_is_said_in_one_sentence(words, sentence, tmp_path):
    safetensors.write_safetensors(tmp_path / "W", weighted.trained("lenet5_relu", width=1))
    (image,) = weighted.photographs(tmp_path, 1)
    places = {"I": str(image), "--weights=W": f"--weights={tmp_path / 'W'}"}
    words = [places.get(word, word) for word in words]
    _, warned = visualize(*words, f"--output={tmp_path / 'found.svg'}", code=2)
    assert sentence in warned
    assert warned.count("\n") == 1
    assert not list(tmp_path.glob("found*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "width"),
    [
        (["filters"], 800),
        (["filters", "--grey", "--raw"], 600),
        (["curves"], 1800),
        (["curves", "--form=figure1", "--level=0.5"], 1050),
        (["activations", "I"], 1995),
        (["activations", "I", "--layer=conv2"], 1995),
        (["augmentation", "I"], 1995),
        (["saliency", "I", "--stride=4"], 1995),
        (["maximise", "--class=3,4", "--steps=3"], 780),
        (["maximise", "--layer=conv2", "--unit=0", "--steps=3"], 390),
    ],
)
def test_every_page_draws_a_run(words, width, trained_runs, tmp_path):
    (image,) = weighted.photographs(tmp_path, 1)
    words = [str(image) if word == "I" else word for word in words]
    words.append(f"--workdir={trained_runs / 'quickstart'}")
    said, _ = visualize(*words, f"--output={tmp_path / 'found.png'}")
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.width >= width
        shown = f"({picture.width:,} x {picture.height:,} pixels"
    assert f"Written: {tmp_path / 'found.png'} {shown}" in said
    if words[0] in ("curves", "activations"):
        visualize(*words, f"--output={tmp_path / 'found.svg'}")
        text = (tmp_path / "found.svg").read_text()
        assert text.startswith("<?xml")
        assert text.rstrip().endswith("</svg>")


@pytest.mark.slow
def test_confusions_of_an_evaluation_are_drawn(trained_runs, tmp_path):
    file = tmp_path / "found.json"
    words = f"--workdir={trained_runs / 'quickstart'}", f"--json={file}"
    commands.run("evaluate", *words)
    visualize("confusion", f"--json={file}", f"--output={tmp_path / 'found.png'}")
    assert (tmp_path / "found.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet5", "cifar_11pct"])
def test_other_networks_are_drawn_too(name, tmp_path):
    trained = weighted.trained(name, width=1 / 4)
    safetensors.write_safetensors(tmp_path / "weights.safetensors", trained)
    (image,) = weighted.photographs(tmp_path, 1)
    for page in (["filters"], ["activations", image]):
        words = (f"--weights={tmp_path / 'weights.safetensors'}", f"--output={tmp_path / 'x.png'}")
        visualize(*page, *words)
        with Image.open(tmp_path / "x.png") as picture:
            assert min(picture.size) > 200
        (tmp_path / "x.png").unlink()
