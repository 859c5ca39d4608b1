"""Nothing that is read runs code: weights, checkpoints and sets of images."""

import ast
import os
import pathlib
import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.data import prepared, shards, statistics
from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.train_state import TrainState
from tests.support import layouts
from tests.support.layouts import small_set
from tests.support.preparing import SIZE

ROOT = pathlib.Path(__file__).parent.parent.parent
UNPICKLING = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle",
              "yaml", "zipfile", "runpy", "code"}  # fmt: skip
RUNNING = {"eval", "exec", "compile", "__import__", "import_module", "system", "popen",
           "extract", "extractall", "unpack_archive", "exec_module", "load_module"}  # fmt: skip
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
            keywords = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            needed = ONLY_WITH.get(called)
            if needed and (needed[0] not in keywords or keywords[needed[0]] is not needed[1]):
                yield called
            last = called.split(".")[-1]
            if last in RUNNING and called not in BY_DESIGN and not called.endswith(").compile"):
                yield called


# Names of two fixed tables, Python files that the command line names, the project's own configs, a
# reader of pickles that builds arrays alone (that it refuses the rest is in
# tests/weights/test_cuda_convnet.py), the exception by which the reader of PyTorch refuses, and
# archives whose members are read into memory, never unpacked.
ON_PURPOSE = {
    "alexnet_jax/__init__.py": {"importlib.import_module"},
    "alexnet_jax/__main__.py": {"importlib.import_module"},
    "alexnet_jax/runtime/user_code.py": {"spec.loader.exec_module"},
    "alexnet_jax/training/config_files.py": {"runpy"},
    "alexnet_jax/weights/python2.py": {"pickle"},
    "alexnet_jax/weights/state_dict.py": {"pickle"},
    "alexnet_jax/weights/files.py": {"zipfile"},
    "alexnet_jax/tools/features/files.py": {"zipfile"},
}


def test_the_source_neither_unpickles_nor_unpacks():
    for folder in ("alexnet_jax", "configs", "launch"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            allowed = ON_PURPOSE.get(path.relative_to(ROOT).as_posix(), set())
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


@pytest.mark.parametrize("load", [statistics.Statistics.load, shards.ShardSummary.load])
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
