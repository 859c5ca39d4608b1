"""Eight simulated CPU devices for every test; set before jax starts.

XLA optimises less here than it does for users, since most of a test's time is compilation
(support/compiling.py). Processes that tests start inherit both, and all find what was compiled once
in this session, by whichever of pytest-xdist's workers. tests/test_main.py alone starts what users
run.
"""

import atexit
import fcntl
import gc
import os
import pathlib
import shutil
import signal
import tempfile

from tests.support import compiling

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["XLA_FLAGS"] = compiling.flags(0)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
if "TESTS_COMPILED" in os.environ:  # a folder of programs that outlives the session
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["TESTS_COMPILED"]
elif "PYTEST_XDIST_WORKER" not in os.environ:  # a worker inherits the folder
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Under nohup, or in the background of a script, the programs that tests send these signals to
# would inherit that they are ignored, and never end.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

from alexnet_jax.runtime import xla_flags

xla_flags.configure_xla()

import jax
import pytest

from tests.support import layouts


def shared_by_workers(tmp_path_factory, name, make):
    """A folder that make(folder) filled once for all of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = root / f"shared-{name}"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if not folder.exists():
            unfinished = root / f"unfinished-{name}"
            shutil.rmtree(unfinished, ignore_errors=True)  # of a worker that failed
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def data():
    """A small set of photographs, {split: {class: {file name: bytes}}}."""
    return layouts.small_set()


@pytest.fixture(scope="session", params=layouts.LAYOUTS)
def source(request, data, tmp_path_factory):
    """KIND:WHERE of the same images in each layout."""
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(root))
        yield layouts.LAYOUTS[request.param](root, data)


@pytest.fixture(scope="session")
def prepared_sets(data, tmp_path_factory):
    """Folders of the same images, prepared as JPEG and as raw pixels; not to be changed."""
    from tests.support import preparing

    def prepare(root):
        source = layouts.folder(root / "files", data)
        for form in ("jpeg", "raw"):
            preparing.make(source, root / form, format=form)

    return shared_by_workers(tmp_path_factory, "sets", prepare)


@pytest.fixture
def prepared_set(prepared_sets, tmp_path):
    """Copies a prepared set, to be damaged."""
    return lambda form: pathlib.Path(shutil.copytree(prepared_sets / form, tmp_path / "set"))


@pytest.fixture
def float64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory):
    """A folder with one short run for each of evaluated.RUNS; not to be changed."""
    from tests.support import evaluated

    return shared_by_workers(tmp_path_factory, "runs", evaluated.train)


def pytest_collection_finish():
    """Leave what was imported out of all later collections of garbage, which it would slow."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 20)
