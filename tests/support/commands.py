"""Commands as a user starts them, on the CPU."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu"}


def words(command, *arguments):
    """The command line of python -m alexnet_jax COMMAND."""
    return [sys.executable, "-m", "alexnet_jax", command, *map(str, arguments)]


def run(command, *arguments, code=0):
    """(standard output, standard error) of a command that ends with `code` and no traceback."""
    done = subprocess.run(
        words(command, *arguments), cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr
