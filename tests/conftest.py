"""Eight simulated CPU devices for every test; set before jax starts.

XLA optimises less here than it does for users, since most of a test's time is compilation; the
tests that start `alexnet_jax.main` as a process run what users run. What was compiled once is kept
for the rest of the session, in those processes and in pytest-xdist's other workers too.
"""

import atexit
import os
import pathlib
import shutil
import signal
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker inherits the folder
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Under nohup the programs that tests send SIGHUP to would never hear it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

from alexnet_jax.runtime import xla_flags

xla_flags.configure_xla()

import jax
import pytest

from tests.support import layouts


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

    root = tmp_path_factory.mktemp("sets")
    source = layouts.folder(root / "files", data)
    for form in ("jpeg", "raw"):
        preparing.make(source, root / form, format=form)
    return root


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

    return evaluated.train(tmp_path_factory.mktemp("runs"))
