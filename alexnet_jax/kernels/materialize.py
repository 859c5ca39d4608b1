"""Arrays that XLA for CPUs should compute once and write to memory.

XLA fuses the computation of an array into each part of the program that reads it. Where a part
reads each number several times, at different places, it computes the number as often: a norm and
its gradient once for each window of a pooling layer. XLA removes `jax.lax.optimization_barrier`
before it fuses, so that does not help.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TypeVar

import jax
from jax.experimental import xla_metadata

Arrays = TypeVar("Arrays")

_fused_freely = contextvars.ContextVar("fused_freely", default=False)
_same = jax.jit(jax.lax.optimization_barrier)  # a function that jax does not see through


def materialize(arrays: Arrays) -> Arrays:
    """The same arrays, written to memory before anything reads them; on a CPU alone.

    They pass through a function call that XLA may not inline, which costs nothing by itself.
    """
    if jax.default_backend() != "cpu" or _fused_freely.get():
        return arrays
    with xla_metadata.set_xla_metadata(inlineable="false"):
        return _same(arrays)


@contextlib.contextmanager
def fused_freely() -> Iterator[None]:
    """Programs lowered in this context ignore `materialize`, to measure what it gains."""
    before = _fused_freely.set(True)
    try:
        yield
    finally:
        _fused_freely.reset(before)
