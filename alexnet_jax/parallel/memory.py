"""How the C library hands out memory: in large pages, and again and again the same.

A step takes gigabytes for its temporary arrays and gives them back at its end. By default they
come as new pages of 4 KiB, each zeroed by the kernel when it is first touched.
"""

import os
import sys

VARIABLE = "GLIBC_TUNABLES"
# Read by glibc when a program starts, by others not at all. One arena, since in the others each
# large array is mapped anew; freed memory is kept up to a size that no machine has.
TUNABLES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "hugetlb": 1,
        "arena_max": 1,
        "mmap_max": 0,
        "trim_threshold": 2**46,
    }.items()
)


def start_again() -> None:
    """Start this command anew with `TUNABLES`, unless they or the user's own are set.

    Returns where there is nothing to do: on another system than Linux, and in a program that is not
    `python -m alexnet_jax...`, such as a notebook. The process keeps its number.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    ours = spec is not None and spec.name.partition(".")[0] == "alexnet_jax"
    if sys.platform != "linux" or VARIABLE in os.environ or not ours:
        return
    command = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    os.execve(sys.executable, command, os.environ | {VARIABLE: TUNABLES})
