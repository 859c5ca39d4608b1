"""How many files of the project a reader of one training step has to open."""

import dataclasses
import pathlib
import sys

import alexnet_jax
from alexnet_jax.model.ops import REFERENCE
from tests.support import miniature

PACKAGE = pathlib.Path(alexnet_jax.__file__).parent
MOST = 12


def test_a_traced_step_of_the_reference_enters_few_files():
    """The quickstart's network has two towers, norms and dropout, as net 145."""
    steps = dataclasses.replace(miniature.make_steps("quickstart", 1, 1), operations=REFERENCE)
    batch = steps.batch_shapes(miniature.BATCH, miniature.STORED["quickstart"])
    preprocessing, state = miniature.plain_preprocessing(steps), steps.state_shapes()
    entered = set()

    def record(frame, event, _):
        if event == "call":
            entered.add(frame.f_code.co_filename)

    sys.setprofile(record)
    try:
        steps.training().lower(state, *batch, preprocessing)
    finally:
        sys.setprofile(None)
    files = sorted(
        path.relative_to(PACKAGE).as_posix()
        for path in map(pathlib.Path, entered)
        if path.is_relative_to(PACKAGE)
    )
    assert not any(file.startswith("kernels/") for file in files)
    assert len(files) <= MOST, f"{len(files)} files: {', '.join(files)}"
