"""The folder in which XLA's compiled programs are kept from one command to the next.

JAX executes the programs in it, so only the user may write to it.
"""

import hashlib
import os
import pathlib
import platform
import re
import zlib
from collections.abc import Mapping

MAX_BYTES = 2**31  # bytes of all programs; the oldest are removed
_CHECKED = "checked"  # a file whose time is that of the last `clean`
_ZLIB = b"\x78"  # how jax's files begin, unless zstandard is installed


def open_folder(environment: Mapping[str, str]) -> pathlib.Path | None:
    """This machine's folder in the user's cache folder, created and cleaned.

    None if it can't be written, or others may write to it.
    """
    home = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(home, "alexnet_jax", "compiled", f"{machine()}-{threads(environment)}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022 or not os.access(folder, os.W_OK):
            return None
        clean(folder, MAX_BYTES)
    except OSError:
        return None
    return folder


def machine() -> str:
    """A name for the instruction set of this processor, for which programs are compiled.

    A home folder may be shared by machines with different processors.
    """
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    instructions = re.search(r"^(?:flags|Features)\s*:.*$", text, re.MULTILINE)
    flags = instructions[0] if instructions else platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:12]}"


def threads(environment: Mapping[str, str]) -> int:
    """Threads that XLA compiles for on a CPU: PJRT_NPROC, else the cores this process may use.

    A program's loops are compiled for a number of threads, which is not part of jax's cache key: a
    program that was compiled on one core would later leave the others idle.
    """
    variable = environment.get("PJRT_NPROC", "")
    if variable.isdecimal() and int(variable):
        return int(variable)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def clean(folder: pathlib.Path, max_bytes: int) -> None:
    """Remove damaged files, and the oldest ones so that all take at most `max_bytes`.

    JAX writes a program once, in place, so it would warn of a damaged one forever. Files that the
    last call has checked are not read again.
    """
    mark = folder / _CHECKED
    last_clean = mark.stat().st_mtime if mark.exists() else 0.0
    mark.touch()
    programs = []
    for file in folder.glob("*-cache"):
        status = file.stat()
        if status.st_mtime >= last_clean and _damaged(file):
            file.unlink(missing_ok=True)
        else:
            programs.append((status.st_mtime, status.st_size, file))
    total = 0
    for _, size, file in sorted(programs, reverse=True):
        total += size
        if total > max_bytes:
            file.unlink(missing_ok=True)


def _damaged(file: pathlib.Path) -> bool:
    content = file.read_bytes()
    if content and not content.startswith(_ZLIB):
        return False
    try:
        return not zlib.decompress(content)
    except zlib.error:
        return True
