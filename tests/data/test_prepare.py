"""Prepared sets: what is in them, for each kind of source, and that a kill costs no shard twice."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from alexnet_jax.data import images, metadata, prepare, prepared, statistics, stream
from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from tests.support import layouts
from tests.support.layouts import BIRD, DOG, FISH
from tests.support.odd_images import jpeg
from tests.support.preparing import SIZE, make, open_folder, settings

CLASSES = (FISH, BIRD, DOG)
REFUSED, UNDECODABLE = f"{FISH}_line.JPEG", f"{FISH}_truncated.JPEG"

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def made(source, tmp_path_factory):
    """The data set of the other fixtures, prepared as raw pixels from each layout."""
    output = tmp_path_factory.mktemp("prepared") / "set"
    return output, *make(source, output, format="raw")


def test_each_image_is_there_once_with_its_pixels_and_label(made, data):
    _, _, splits = made
    for split, classes in data.items():
        ours = splits[split]
        good = {
            file: (label, content)
            for label, files in classes.items()
            for file, content in files.items()
            if file not in (REFUSED, UNDECODABLE)
        }
        names = [pathlib.PurePath(ours.name(record)).name for record in range(len(ours))]
        assert sorted(names) == sorted(good)
        pixels, labels = ours.load(range(len(ours)))
        for row, name in enumerate(names):
            label, content = good[name]
            assert {-1: "", **dict(enumerate(CLASSES))}[labels[row]] == label
            np.testing.assert_array_equal(pixels[row], images.decode(content, "it", SIZE, 3))


def test_the_report_names_what_is_odd_and_what_is_lost(made):
    _, report, _ = made
    train = report["splits"]["train"]
    named = {
        word: [pathlib.PurePath(name).name for name in names]
        for word, names in train["oddities"].items()
    }
    assert named == {
        "greyscale": [f"{FISH}_grey.JPEG"],
        "CMYK": [f"{FISH}_cmyk.JPEG"],
        "other format under a JPEG name": [f"{FISH}_png.JPEG"],
        "rotated by EXIF, kept as stored": [f"{FISH}_rotated.JPEG"],
        "refused": [REFUSED],
        "undecodable": [UNDECODABLE],
    }
    assert (train["found"], train["images"]) == (16, 14)
    assert sorted(train["images_per_class"].values()) == [3, 5, 6]
    text = metadata.report_text(report)
    assert "train: 14 of 16 images in 3 classes of 3 to 6, median 5" in text
    assert UNDECODABLE in text
    assert REFUSED in text


def test_statistics_equal_numpys_in_float64(made):
    output, _, splits = made
    measured = statistics.Statistics.load(output / prepared.STATISTICS)
    pixels = splits["train"].load(range(14))[0].astype(np.float64)
    np.testing.assert_allclose(measured.mean_image, pixels.mean(axis=0), rtol=1e-6)
    values = np.linalg.eigvalsh(np.cov(pixels.reshape(-1, 3).T, bias=True))[::-1]
    np.testing.assert_allclose(measured.colour_deviations, np.sqrt(values), rtol=1e-5)
    covariance = np.cov(pixels.reshape(-1, 3).T, bias=True)
    for value, direction in zip(values, measured.colour_directions, strict=True):
        np.testing.assert_allclose(covariance @ direction, value * direction, rtol=2e-3, atol=0.05)
    assert measured.images == 14
    assert measured.fingerprint == splits["train"].fingerprint


def test_tensorflow_datasets_opens_it(made):
    import tensorflow_datasets as tfds

    output, _, splits = made
    builder = tfds.builder_from_directory(output)
    for split, ours in splits.items():
        theirs = builder.as_data_source(split)
        assert len(theirs) == len(ours)
        pixels, labels = ours.load(range(len(ours)))
        for row in (0, len(ours) - 1):
            np.testing.assert_array_equal(theirs[row]["image"], pixels[row])
            assert theirs[row]["label"] == labels[row]
            assert theirs[row]["file_name"].decode() == ours.name(row)


def run(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "alexnet_jax", "prepare", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | environment, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_preparation_goes_on_without_redoing_shards(tmp_path):
    files = {f"{i:04d}.jpg": jpeg(600, 600, 4) for i in range(1000)}
    validation = {"1.jpg": files["0000.jpg"]}
    source = layouts.folder(tmp_path, {"train": {"a": files}, "val": {"a": validation}})
    output = tmp_path / "set"
    arguments = (f"--source={source}", f"--output={output}", "--num_workers=1", "--image_size=32")
    process = run(*arguments)
    while not list((output / prepared.UNFINISHED).glob("train-*.npz")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / prepared.FACTS).exists()
    with pytest.raises(UserError, match="is not finished: give the command"):
        open_folder(output, 32)
    before = {path: path.stat().st_mtime_ns for path in output.glob("*array_record*")}
    assert 1 <= len(before) < 5
    outputs = run(*arguments).communicate()
    assert "shards are missing" in outputs[0], outputs[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (output / prepared.UNFINISHED).exists()
    assert not list(output.glob("*.partial*"))
    undisturbed = tmp_path / "other"
    run(arguments[0], f"--output={undisturbed}", *arguments[2:]).communicate()
    ours, theirs = (
        json.loads((where / prepared.FACTS).read_text())["splits"]
        for where in (output, undisturbed)
    )
    assert ours == theirs
    again = run(*arguments).communicate()
    assert "is already prepared" in again[0]


@pytest.mark.slow
def test_killed_at_random_instants_the_set_is_the_same_byte_by_byte(tmp_path):
    """The parent alone is killed: the processes that write shards have to end by themselves."""
    files = {f"{i:04d}.jpg": jpeg(300, 300, i) for i in range(1500)}
    source = layouts.folder(
        tmp_path, {"train": {"a": files}, "val": {"a": {"1.jpg": jpeg(9, 9, 0)}}}
    )
    arguments = (f"--source={source}", "--num_workers=2", "--image_size=32", "--format=raw")
    began, undisturbed = time.monotonic(), tmp_path / "undisturbed"
    process = run(*arguments, f"--output={undisturbed}")
    while not list((undisturbed / prepared.UNFINISHED).glob("train-*.npz")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    first = time.monotonic() - began
    said = process.communicate()
    assert "use it with" in said[0], said[1]
    latest = first + (time.monotonic() - began - first) / 2
    instants, killed = random.Random(0), 0
    while killed < 5:
        process = run(*arguments, f"--output={tmp_path / 'killed'}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(instants.uniform(0, latest))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:  # quicker than the undisturbed one, whose machine may have been busier
            shutil.rmtree(tmp_path / "killed")
            latest /= 2
        process.communicate()
    said = run(*arguments, f"--output={tmp_path / 'killed'}").communicate()
    assert "use it with" in said[0], said[1]
    ours, theirs = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("killed", "undisturbed")
    )
    assert ours == theirs


def test_mistakes_are_said_in_one_sentence(tmp_path, data):
    source = layouts.folder(tmp_path, data)
    make(source, tmp_path / "set")
    for output, changed, sentence in (
        ("set", {"size": 32}, r"other settings \(--image_size\): choose another"),
        ("train", {}, "is not empty: choose another --output"),
    ):
        with pytest.raises(UserError, match=sentence):
            make(source, tmp_path / output, **changed)
    for changed, sentence in (
        ({"size": 32}, "prepared with data.image_size=64, and this run wants 32"),
        ({"channels": 1}, "prepared with channels=3"),
        ({"warp": True}, "prepared with data.resize=crop"),
        ({"split": "tset"}, "no split 'tset': it has train, val, test"),
    ):
        wanted = {"split": "train", "size": SIZE, "channels": 3, "warp": False} | changed
        with pytest.raises(UserError, match=sentence):
            prepared.Prepared(tmp_path / "set", **wanted)
    for name, text in ((prepared.REPORT, "[]"), (f"{prepared.UNFINISHED}/plan.json", "{")):
        broken = tmp_path / "broken" / name
        broken.parent.mkdir(parents=True, exist_ok=True)
        broken.write_text(text)
        with pytest.raises(UserError, match=f"{broken} can't be read: take .* away and prepare"):
            prepare._read_json(broken)
    process = run("--source=folder:/not/there", f"--output={tmp_path / 'never'}")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err == "error: /not/there is not a folder: folder:DIR needs one that exists.\n"
    assert not (tmp_path / "never").exists()


def test_two_commands_do_not_write_to_one_folder(tmp_path, data):
    source = layouts.folder(tmp_path, data)
    plan = prepare._plan(open_origin(source), settings())
    busy = pytest.raises(UserError, match="Another command is preparing")
    with prepare._locked(tmp_path / "set", plan), busy:
        make(source, tmp_path / "set")


def test_a_config_finds_the_set_where_tensorflow_datasets_keeps_its_data(
    tmp_path, data, monkeypatch
):  # fmt: skip
    source = layouts.folder(tmp_path / "files", data)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    make(source, prepared.default_folder("mini"))
    training, validation = open_folder(None, SIZE, name="mini")
    assert (len(training), len(validation)) == (14, 4)


def test_a_damaged_record_is_a_bad_image(tmp_path, data):
    source = layouts.folder(tmp_path, data)
    _, splits = make(source, tmp_path / "set")
    file = next((tmp_path / "set").glob("*-val.array_record*"))
    content = bytearray(file.read_bytes())
    at = content.rindex(b"\xff\xd8\xff") + 700
    content[at : at + 400] = bytes(400)
    file.write_bytes(content)
    damaged = prepared.Prepared(tmp_path / "set", "val", SIZE, 3)
    outcomes = []
    for record in range(len(damaged)):
        try:
            damaged.load([record])
            outcomes.append("read")
        except images.BadImage:
            outcomes.append("bad")
    assert sorted(outcomes) == ["bad"] + ["read"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jpeg", "raw"])
def test_memory_stays_flat_over_ten_thousand_batches(tmp_path, data, form):
    _, splits = make(layouts.folder(tmp_path / "files", data), tmp_path / "set", format=form)
    batches = stream.training_batches(
        splits["train"], seed=0, batch_size=16, indices=np.arange(16), first_step=0,
        last_step=10_000, num_workers=2, prefetch=2,
    )  # fmt: skip

    kept = []
    for step, _ in enumerate(batches, start=1):
        if step % 1000 == 0:
            kept.append(resident_megabytes())
    assert len(kept) == 10
    assert kept[-1] - kept[1] < 20, kept  # 10,000 batches are 1,970 megabytes


def resident_megabytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


READING = f"""
import pathlib, sys, threading
from alexnet_jax.data.prepared import Prepared
source = Prepared(pathlib.Path(sys.argv[1]), "train", {SIZE}, 3)
before = set(sys.modules)
reader = threading.Thread(target=source.load, args=([0, 1],))
reader.start()
reader.join()
print({{name.split(".")[0] for name in set(sys.modules) - before}})
"""


def test_threads_that_read_a_set_import_no_library_with_lazy_modules(prepared_sets):
    """Two threads that did so at a time waited for each other for ever, now and then."""
    said = subprocess.check_output(
        [sys.executable, "-c", READING, prepared_sets / "jpeg"], cwd=ROOT
    )
    assert b"simplejpeg" in said  # it did read
    assert not {b"etils", b"tensorflow_datasets"} & set(re.findall(rb"\w+", said))


@pytest.mark.parametrize("library", ["tensorflow_datasets", "array_record"])
def test_a_missing_library_is_no_broken_image(prepared_sets, monkeypatch, library):
    """Pixels are read without it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    facts = prepared.read_facts(prepared_sets / "raw")
    sides = facts["size"], facts["channels"]
    prepared.Prepared(prepared_sets / "raw", "train", *sides).load([0])
    with pytest.raises(UserError, match=f"needs the library {library}, which is not installed"):
        prepared.Prepared(prepared_sets / "jpeg", "train", *sides)
