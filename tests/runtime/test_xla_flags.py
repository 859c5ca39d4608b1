"""The surroundings that commands give themselves before jax starts."""

import os
import subprocess
import sys
import time
import types

import pytest

from alexnet_jax.runtime import malloc
from tests.support.commands import ROOT

# Of the type's rounding, with room for sums in another order; the known wrong results are 0.01.
BOUNDS = {
    "float32": 5e-6, "bfloat16": 1e-2, "float64": 1e-14, "known_float32": 5e-6,
    "known_float64": 1e-14,
}  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 25), *(pytest.param(n, 200, marks=pytest.mark.slow) for n in (1, 2))]
)
def test_products_are_right_as_users_compute_them(seed, count):
    """XLA's library for them is experimental, and wrong where it is not asked for alone."""
    program = (
        "from alexnet_jax.runtime import xla_flags; xla_flags.configure_xla(); "
        f"from tests.support import products; products.report({seed}, {count})"
    )
    clean = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=clean | {"JAX_ENABLE_X64": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    errors = {name: float(error) for name, error in map(str.split, done.stdout.splitlines())}
    assert set(errors) == set(BOUNDS)
    assert all(0 < errors[name] < BOUNDS[name] for name in BOUNDS), errors


@pytest.fixture
def started(monkeypatch):
    """What would be started in place of this process, if it were a command."""
    calls = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "alexnet_jax.main", "--config=c"])
    main = types.SimpleNamespace(__spec__=types.SimpleNamespace(name="alexnet_jax.main"))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv(malloc.VARIABLE, raising=False)
    return calls


def test_a_command_is_restarted_with_its_arguments(started):
    malloc.restart_with_tunables()
    ((program, words, environment),) = started
    assert program == words[0] == sys.executable
    assert words[1:] == ["-m", "alexnet_jax.main", "--config=c"]
    assert environment == os.environ | {malloc.VARIABLE: malloc.TUNABLES}


@pytest.mark.parametrize("theirs", ["", "glibc.malloc.tcache_count=7"])
def test_the_user_decides_about_memory(started, monkeypatch, theirs):
    monkeypatch.setenv(malloc.VARIABLE, theirs)
    malloc.restart_with_tunables()
    assert not started


@pytest.mark.parametrize("spec", [None, types.SimpleNamespace(name="pytest.__main__")])
def test_other_programs_are_not_restarted(started, spec):
    sys.modules["__main__"].__spec__ = spec
    malloc.restart_with_tunables()
    assert not started


def test_other_systems_are_not_restarted(started, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    malloc.restart_with_tunables()
    assert not started


@pytest.mark.skipif(sys.platform != "linux", reason="only there memory is set up so")
def test_a_command_goes_on_as_the_same_process(tmp_path):
    words = [sys.executable, "-m", "alexnet_jax.main", f"--workdir={tmp_path}/run"]
    clean = {name: value for name, value in os.environ.items() if name != malloc.VARIABLE}
    with subprocess.Popen(words, cwd=ROOT, env=clean, stderr=subprocess.DEVNULL) as process:
        try:
            # glibc ends each setting with a zero where it reads them.
            wanted = f"{malloc.VARIABLE}={malloc.TUNABLES}".encode().split(b":")
            until = time.monotonic() + 120
            while not set(wanted) <= set(b":".join(read(process.pid, "environ")).split(b":")):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.02)
            assert read(process.pid, "cmdline")[1:] == [word.encode() for word in words[1:]]
        finally:
            process.kill()


def read(pid, what):
    with open(f"/proc/{pid}/{what}", "rb") as file:
        return file.read().split(b"\0")[:-1]
