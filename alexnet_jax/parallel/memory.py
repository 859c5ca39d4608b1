"""How the C library asks for memory: in large pages, and seldom.

A step takes its temporary arrays anew and gives them back at its end: a few megabytes of a small
network, gigabytes of AlexNet. By default they come as new pages of 4 KiB, each handed out and
zeroed by itself.
"""

import os
import sys

VARIABLE = "GLIBC_TUNABLES"  # read by glibc when a program starts, by others not at all
# Bytes: an array up to here is kept for the next step, once it was freed. A step of a large network
# of 32 images takes half of it; with more, the steps that wait would hold many gigabytes.
_KEPT = 2**30
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",  # pages of 2 MiB, where the kernel offers them
        f"glibc.malloc.mmap_threshold={_KEPT}",
        f"glibc.malloc.trim_threshold={2 * _KEPT}",
        "glibc.malloc.arena_max=1",  # others hold no array of more than 64 MiB
    )
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
