"""How the C library asks for memory: in pages of 2 MiB, where the kernel offers them.

A step takes gigabytes for its temporary arrays and gives them back at its end. By default they
come as new pages of 4 KiB, each handed out and zeroed by itself.
"""

import os
import sys

VARIABLE = "GLIBC_TUNABLES"  # read by glibc when a program starts, by others not at all
# Keeping what was freed for the next step gains some more, but a run then held nearly three times
# the memory.
TUNABLES = "glibc.malloc.hugetlb=1"


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
