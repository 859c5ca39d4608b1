"""Eight simulated CPU devices for every test; set before jax starts.

XLA optimises less here than it does for users, since most of a test's time is compilation; the
tests that start `alexnet_jax.main` as a process run what users run.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

from alexnet_jax.parallel import platform

platform.configure()

import jax
import pytest


@pytest.fixture
def float64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
