"""What XLA on a CPU should compute once.

It puts what makes an array into each part of the program that reads it. Where a part reads each
number several times over, at other places, it is then computed as often: the search for maxima and
a norm's gradient for each window of a pooling layer. XLA takes `optimization_barrier` out before.
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
    """The same arrays, which lie in memory before anything reads them; nothing but on a CPU.

    They pass through a call that XLA may not put in place, which costs nothing by itself.
    """
    if jax.default_backend() != "cpu" or _fused_freely.get():
        return arrays
    with xla_metadata.set_xla_metadata(inlineable="false"):
        return _same(arrays)


@contextlib.contextmanager
def fused_freely() -> Iterator[None]:
    """What is lowered meanwhile is fused as XLA likes, to measure what `materialize` gains."""
    before = _fused_freely.set(True)
    try:
        yield
    finally:
        _fused_freely.reset(before)
