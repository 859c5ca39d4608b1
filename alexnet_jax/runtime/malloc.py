"""Tunables of the C library's allocator: large pages, and memory that is kept between steps.

A step allocates its temporary arrays and frees them at its end: a few megabytes for a small
network, gigabytes for AlexNet. By default they come as new pages of 4 KiB, each of which the kernel
clears.
"""

import os
import sys

VARIABLE = "GLIBC_TUNABLES"  # read by glibc when a program starts, by other C libraries not at all
# Bytes: freed arrays of the main thread up to this size are kept for the next step.
_KEPT = 2**30
# Bytes of the heaps of all other threads' arenas. An empty heap goes back to the kernel, whatever
# the thresholds are, unless top_pad is as large. Larger arrays of these threads are always new. A
# single arena for all threads would keep those too, but XLA's threads, which allocate for each part
# of a product, then wait for each other: steps of small networks took 1.2 to 1.3 times as long
# (docs/performance.md).
_HEAP = 64 * 2**20
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # pages of 2 MiB, where the kernel offers them
        f"glibc.malloc.mmap_threshold={_KEPT}",
        f"glibc.malloc.trim_threshold={2 * _KEPT}",
        f"glibc.malloc.top_pad={_HEAP}",
    )
)


def restart_with_tunables() -> None:
    """Execute this command anew with `TUNABLES` in its environment, in the same process.

    Does nothing where the variable is set already, on another system than Linux, and in a program
    that is not a command of this package, such as a notebook.
    """
    if sys.platform != "linux" or VARIABLE in os.environ or not _is_our_program():
        return
    command = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, command, os.environ | {VARIABLE: TUNABLES})


def _is_our_program() -> bool:
    """Whether this is `python -m alexnet_jax...` or the script `alexnet-jax`."""
    program = sys.modules["__main__"]
    spec = getattr(program, "__spec__", None)
    if spec is not None:
        return spec.name.partition(".")[0] == "alexnet_jax"
    return os.path.basename(getattr(program, "__file__", None) or "") == "alexnet-jax"
