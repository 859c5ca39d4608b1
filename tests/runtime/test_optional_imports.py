"""Libraries that only some commands need."""

import subprocess
import sys

import pytest

from tests.support import commands

# TensorFlow without Keras, which is there all the same when somebody asks for it.
PROGRAM = """
import os, sys
from alexnet_jax.runtime.optional_imports import import_tensorflow

before = dict(os.environ)
tf = import_tensorflow()
assert os.environ.get("TF_USE_LEGACY_KERAS") == before.get("TF_USE_LEGACY_KERAS")
assert not [name for name in sys.modules if name.partition(".")[0] in ("keras", "tf_keras")]
assert [int(x) for x in tf.data.Dataset.range(2)] == [0, 1]
assert int(tf.keras.__version__[0]) >= 3
"""


@pytest.mark.slow
def test_tensorflow_is_imported_without_keras_and_offers_it_later():
    environment = {k: v for k, v in commands.ENVIRONMENT.items() if k != "TF_USE_LEGACY_KERAS"}
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=commands.ROOT, env=environment, check=True)
