"""How the C library asks for memory: in large pages, and seldom.

A step takes its temporary arrays anew and gives them back at its end: a few megabytes of a small
network, gigabytes of AlexNet. By default they come as new pages of 4 KiB, each handed out and
zeroed by itself.
"""

import os
import sys

VARIABLE = "GLIBC_TUNABLES"  # read by glibc when a program starts, by others not at all
# Bytes: the first thread's arrays up to here are kept for the next step, once they were freed.
_KEPT = 2**30
# What a thread that is not the first keeps comes in heaps of so many bytes. An empty one goes back
# to the kernel, whatever may be kept, unless as much is padded. Such threads' larger arrays come
# anew. A single arena for all would keep those too, but there XLA's threads, which take and return
# room for each part of a product, hinder each other: small networks' steps took 1.2 to 1.3 times
# as long (docs/performance.md).
_HEAP = 64 * 2**20
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # pages of 2 MiB, where the kernel offers them
        f"glibc.malloc.mmap_threshold={_KEPT}",
        f"glibc.malloc.trim_threshold={2 * _KEPT}",
        f"glibc.malloc.top_pad={_HEAP}",
    )
)


def start_again() -> None:
    """Start this command anew with `TUNABLES`, unless they or the user's own are set.

    Returns where there is nothing to do: on another system than Linux, and in a program that is not
    ours, such as a notebook. The process keeps its number.
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
