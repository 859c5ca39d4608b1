"""Commands as a user gives them, on the CPU: in this process, or started as one."""

import contextlib
import io
import logging
import os
import pathlib
import signal
import sys

import pytest
from absl import logging as absl_logging

from alexnet_jax import __main__ as program
from alexnet_jax.runtime import cli
from tests.support import compiling

ROOT = pathlib.Path(__file__).parent.parent.parent
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu"}
# For processes that train in float64, whose loops take several times as long without.
DOUBLE_PRECISION = {"XLA_FLAGS": compiling.flags(1)}


def words(command, *arguments):
    """The command line of python -m alexnet_jax COMMAND."""
    return [sys.executable, "-m", "alexnet_jax", command, *map(str, arguments)]


def run(command, *arguments, code=0, cwd=ROOT):
    """(standard output, standard error) of a command in the folder `cwd` that ends with `code`.

    It runs in this process, since a start with its imports takes longer than most commands.
    tests/test_main.py and the tests of several processes start real ones.
    """
    output, errors = io.StringIO(), io.StringIO()
    with _undisturbed(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", words(command, *arguments)[2:])
        patch.setattr(cli, "_exit", sys.exit)  # the other may end this process
        ended = 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                program.main()
            except SystemExit as end:
                ended = end.code or 0
    assert ended == code, output.getvalue() + errors.getvalue()
    assert "Traceback" not in errors.getvalue()
    return output.getvalue(), errors.getvalue()


@contextlib.contextmanager
def _undisturbed():
    """Undoes what a command sets for its process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGINT)}
    verbosity, level = absl_logging.get_verbosity(), logging.getLogger("asyncio").level
    shown = sys.unraisablehook
    try:
        yield
    finally:
        sys.unraisablehook = shown
        logging.getLogger("asyncio").setLevel(level)
        absl_logging.set_verbosity(verbosity)
        for number, handler in handlers.items():
            signal.signal(number, handler)
