import os
import subprocess
import sys
import time
import zlib

import pytest

from alexnet_jax.runtime import compilation_cache
from tests.support.commands import ROOT

# Compiles one program that takes more than the least time that is worth a file.
PROGRAM = """
from alexnet_jax.runtime import xla_flags
xla_flags.configure_xla()
import os
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
print(jax.jit(lambda x: (x @ x.T).sum())(jax.numpy.ones((3, 4))))
print(sum("cache_hits" in event for event in events))
"""


def start(home, **environment):
    """(what the program prints, the programs kept) with `home` as the user's cache folder."""
    clean = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True,
        env=clean | {"XDG_CACHE_HOME": str(home), "JAX_NUM_CPU_DEVICES": "1"} | environment,
    )  # fmt: skip
    assert not done.stderr
    total, hits = done.stdout.split()
    assert float(total) == 36.0
    return int(hits), sorted(home.rglob("*-cache"))


def test_the_next_command_finds_the_programs_of_the_last_also_after_a_kill(tmp_path):
    hits, kept = start(tmp_path)
    assert not hits
    assert kept
    hits, _ = start(tmp_path)
    assert hits == len(kept)

    whole = {file: file.read_bytes() for file in kept}
    kept[0].write_bytes(whole[kept[0]][:-20])  # as a kill while it is written leaves it
    hits, mended = start(tmp_path)
    assert hits == len(kept) - 1
    assert mended == kept
    assert zlib.decompress(mended[0].read_bytes())


@pytest.mark.slow
def test_each_number_of_threads_has_its_own_programs(tmp_path):
    """XLA cuts loops for the threads it has; another number must not find them."""
    for threads in ("1", "2"):
        hits, kept = start(tmp_path, PJRT_NPROC=threads)
        assert not hits
        assert start(tmp_path, PJRT_NPROC=threads) == (len(kept) // int(threads), kept)


def test_threads_are_those_cores_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert compilation_cache.threads({}) == 3
    assert compilation_cache.threads({"PJRT_NPROC": "2"}) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert compilation_cache.threads({"PJRT_NPROC": "many"}) == os.cpu_count()


def test_the_user_decides_where_programs_are_kept(tmp_path):
    other = tmp_path / "other"
    assert start(tmp_path / "home", JAX_COMPILATION_CACHE_DIR=str(other)) == (0, [])
    assert list(other.glob("*-cache"))
    assert start(tmp_path / "home", JAX_COMPILATION_CACHE_DIR="") == (0, [])


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    folder = compilation_cache.open_folder(environment)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o720)
    assert compilation_cache.open_folder(environment) is None


def test_no_folder_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    assert compilation_cache.open_folder({"XDG_CACHE_HOME": str(tmp_path / "file")}) is None


@pytest.mark.parametrize(("largest", "left"), [(100, "abc"), (60, "bc"), (10, "")])
def test_the_oldest_programs_make_room(tmp_path, largest, left):
    for age, name in enumerate("cba"):
        file = tmp_path / f"{name}-cache"
        file.write_bytes(b"(" + bytes(29))
        os.utime(file, times=(time.time() - 100 * age,) * 2)
    compilation_cache.clean(tmp_path, largest)
    assert "".join(sorted(file.name[0] for file in tmp_path.glob("*-cache"))) == left
