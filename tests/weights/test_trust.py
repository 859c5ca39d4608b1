"""Nothing that is read runs code, and no path in it leads out of its folder."""

import ast
import io
import json
import os
import pathlib
import pickle
import shutil
import sys
import tarfile

import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.data import images, prepared, shards, sources, statistics
from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.train_state import TrainState
from tests.support import layouts, preparing
from tests.support.layouts import small_set
from tests.support.odd_images import jpeg
from tests.support.preparing import SIZE

ROOT = pathlib.Path(__file__).parent.parent.parent
UNPICKLING = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle",
              "yaml", "zipfile", "runpy", "code"}  # fmt: skip
RUNNING = {"eval", "exec", "compile", "__import__", "import_module", "system", "popen",
           "extract", "extractall", "unpack_archive"}  # fmt: skip
ONLY_WITH = {"np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False),
             "torch.load": ("weights_only", True)}  # fmt: skip
BY_DESIGN = {"re.compile", "lowered.compile", "torch.compile"}  # a pattern, a step, a network


def dangers(text):
    """What in a piece of source could run code that is read, or write where an archive says."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from {alias.name.split(".")[0] for alias in node.names} & UNPICKLING
        elif isinstance(node, ast.ImportFrom):
            yield from {(node.module or "").split(".")[0]} & UNPICKLING
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            needed = ONLY_WITH.get(called)
            if needed and (needed[0] not in given or given[needed[0]] is not needed[1]):
                yield called
            last = called.split(".")[-1]
            if last in RUNNING and called not in BY_DESIGN and not called.endswith(").compile"):
                yield called


# A reader of pickles that builds arrays alone (tests/weights/test_cuda_convnet.py has it refuse the
# rest), the error by which PyTorch's own refuses, and archives whose members are read into memory,
# never unpacked.
ON_PURPOSE = {
    "weights/python2.py": {"pickle"},
    "weights/state_dict.py": {"pickle"},
    "weights/files.py": {"zipfile"},
    "tools/features/files.py": {"zipfile"},
}


def test_the_source_neither_unpickles_nor_unpacks():
    for folder in ("alexnet_jax", "configs", "launch"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            allowed = ON_PURPOSE.get(path.relative_to(ROOT / folder).as_posix(), set())
            assert set(dangers(path.read_text())) == allowed, path


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from multiprocessing import pool; from marshal import loads", "import yaml",
     "np.load(path)", "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=flag)",
     "torch.load(path)", "tar.extractall(path)", "tar.extract(member)", "eval(text)",
     "exec(text)", "importlib.import_module(name)", "os.system(text)"],
)  # fmt: skip
def test_the_search_of_the_source_finds(text):
    assert list(dangers(text))


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def evil(tmp_path):
    """An array that makes a folder when it is restored; after the test there must be none."""
    mark = tmp_path / "ran"
    yield np.array([Evil(mark)], object)
    assert not mark.exists()


def test_the_evil_array_is_evil(tmp_path):
    pickle.loads(pickle.dumps(np.array([Evil(tmp_path / "ran")], object)))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["train.labels.npy", "train.pixels-00000-of-00001.npy"])
@pytest.mark.parametrize("form", ["npy", "npz", "pickle"])
def test_a_pickle_in_place_of_an_array_is_refused(name, form, prepared_set, evil):
    folder = prepared_set("raw")
    with (folder / name).open("wb") as file:
        match form:
            case "npy":
                np.save(file, evil, allow_pickle=True)
            case "npz":
                np.savez(file, evil)
            case "pickle":
                pickle.dump(evil, file)
    with pytest.raises(UserError, match=f"{name} can't be read .*: prepare the set anew"):
        prepared.Prepared(folder, "train", SIZE, 3)


@pytest.mark.parametrize("load", [statistics.Statistics.load, shards.Outcome.load])
def test_a_pickle_in_an_archive_is_refused(load, tmp_path, evil):
    path = tmp_path / "statistics.npz"
    np.savez(path, mean_image=evil, labels=evil)
    with pytest.raises(UserError, match="statistics.npz can't be read .*: take it away"):
        load(path)


WATCHED = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")


@pytest.fixture(scope="session")
def hooked():
    """All events of WATCHED from now on: an audit hook can't be taken away again."""
    events = []
    sys.addaudithook(lambda event, _: events.append(event) if event in WATCHED else None)
    return events


@pytest.fixture
def ran(hooked):
    """Those during one test."""
    hooked.clear()
    return hooked


def test_the_watch_sees_a_pickle(ran):
    pickle.loads(pickle.dumps(ROOT))
    assert ran == ["pickle.find_class"]


def test_a_checkpoint_is_restored_without_a_pickle_or_a_program(tmp_path, ran):
    state = TrainState(
        step=jnp.int32(1), parameters={"fc8": {"kernel": jnp.ones(3)}}, optimizer_state=(),
        rate_factor=jnp.ones(()), scores={"loss": jnp.zeros(())}, bad_step=jnp.int32(0),
    )  # fmt: skip
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state, {"step": 1})
    ran.clear()
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        restored, facts = checkpoints.restore(1, state)
    assert facts == {"step": 1}
    assert restored.parameters["fc8"]["kernel"].tolist() == [1, 1, 1]
    assert not ran


def test_sets_are_read_without_a_pickle_or_a_program(prepared_sets, tmp_path, monkeypatch, ran):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    written = [layouts.LAYOUTS[kind](tmp_path / kind, small_set())
               for kind in ("folder", "imagenet_tars", "parquet")]  # fmt: skip
    written.append(layouts.tfds_tfrecord(tmp_path, small_set()))
    ran.clear()
    for source in written:
        records = open_origin(source).splits["train"]
        assert len(list(records.read(range(len(records))))) == 16
    for form in ("jpeg", "raw"):
        prepared.Prepared(prepared_sets / form, "train", SIZE, 3).load(range(14))
        statistics.Statistics.load(prepared_sets / form / prepared.STATISTICS)
    assert not ran


def test_postscript_is_no_image(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, in whose place stands a program that leaves a mark."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\nmkdir {tmp_path / 'ran'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(images.Undecodable):
        images.decode(page, "page.jpg", SIZE, 3)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def miniature_set(tmp_path, monkeypatch):
    """A set of tensorflow-datasets to be damaged: its name and its folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = layouts.tfds_tfrecord(tmp_path, small_set())
    return source, next((tmp_path / "miniature").iterdir())


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name"])
def test_a_set_that_names_code_is_refused(key, linked, miniature_set, tmp_path, monkeypatch):
    source, folder = miniature_set
    (tmp_path / "named_by_a_set.py").write_text("import os; os.mkdir(__file__ + '.ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    edit(folder / "features.json", '"pythonClassName": "tensorflow_datasets.core.features.text_',
         f'"{key}": "named_by_a_set.')  # fmt: skip
    if linked:
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path / "moved")
    with pytest.raises(UserError, match="features.json names the code named_by_a_set"):
        open_origin(source)
    assert not (tmp_path / "named_by_a_set.py.ran").exists()


def test_sets_whose_code_would_be_fetched_are_refused():
    with pytest.raises(UserError, match="'kubric:movi' is of a namespace, whose code"):
        open_origin("tfds:kubric:movi")


def test_a_set_cannot_name_files_elsewhere(miniature_set, tmp_path):
    source, folder = miniature_set
    (tmp_path / "elsewhere").mkdir()
    for path in folder.glob("*tfrecord*"):
        shutil.copy(path, tmp_path / "elsewhere")
    edit(folder / "dataset_info.json", '"{DATASET}-', '"../../elsewhere/{DATASET}-')
    with pytest.raises(UserError, match="names files that lie elsewhere"):
        open_origin(source)


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "x/../../elsewhere/x"), ("name", "/etc/x"), ("splits", [1]),
     ("splits", {"../train": {"shards": [14], "fingerprint": "0"}}),
     ("splits", {"train": {"shards": [-1], "fingerprint": "0"}}), ("size", "64"),
     ("classes", None), ("format", "pickle"), ("ilsvrc_ids", [1])],
)  # fmt: skip
def test_a_prepared_set_cannot_be_described_otherwise(field, value, prepared_set):
    path = prepared_set("jpeg") / prepared.FACTS
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(UserError, match="prepared.json can't be used .*: prepare the set anew"):
        prepared.Prepared(path.parent, "train", SIZE, 3)


def member(name, kind=tarfile.REGTYPE, data=b"", link="", **headers):
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size, found.pax_headers = kind, link, len(data), headers
    return found, data


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for found, data in members:
            tar.addfile(found, io.BytesIO(data))


def test_links_and_paths_in_a_tar_lead_nowhere(tmp_path):
    source = layouts.imagenet_tars(tmp_path / "tars", small_set())
    val = tmp_path / "tars/ILSVRC2012_img_val.tar"
    files = [jpeg(9, 9, seed) for seed in range(4)]
    (tmp_path / "secret").write_bytes(b"secret")
    members = [
        member("../../ILSVRC2012_val_1.JPEG", data=files[0]),
        member(f"{tmp_path}/outside/ILSVRC2012_val_2.JPEG", data=files[1]),
        member("link.JPEG", tarfile.SYMTYPE, link=str(tmp_path / "secret")),
        member("hard.JPEG", tarfile.LNKTYPE, link="../secret"),
        member("device.JPEG", tarfile.CHRTYPE),
        member("pipe.JPEG", tarfile.FIFOTYPE),
        member("ILSVRC2012_val_3.JPEG", data=files[2]),
        member("a\n\x1b[2J.JPEG", data=files[3]),
    ]
    write_tar(val, members)
    before = sorted(tmp_path.rglob("*"))
    records = list(open_origin(source).splits["val"].read(range(4)))
    assert [record.data for record in records] == files
    assert sorted(tmp_path.rglob("*")) == before
    _, splits = preparing.make(source, tmp_path / "set")
    names = [splits["val"].name(record) for record in range(4)]
    assert names == [f"ILSVRC2012_val_{number}.JPEG" for number in (1, 2, 3)] + ["a??[2J.JPEG"]


def test_links_to_images_are_images_but_pipes_and_devices_are_not(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat/1.jpg").write_bytes(jpeg(9, 9, 0))
    (tmp_path / "elsewhere.jpg").write_bytes(jpeg(9, 9, 1))
    place = tmp_path / "train/cat"
    (place / "2.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (tmp_path / "train/dog").symlink_to(place)
    assert len(sources.Folder(tmp_path, "train", 8, 3)) == 4
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), pathlib.Path.mkdir):
        make(place / "3.jpg")
        with pytest.raises(UserError, match="3.jpg is not an image"):
            sources.Folder(tmp_path, "train", 8, 3)
        with pytest.raises(UserError, match="3.jpg is no file"):
            open_origin(f"folder:{tmp_path}")
        shutil.rmtree(place / "3.jpg") if (place / "3.jpg").is_dir() else (place / "3.jpg").unlink()
