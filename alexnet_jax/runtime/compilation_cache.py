"""The folder in which XLA's compiled programs are kept from one command to the next.

JAX runs what it finds there, so it belongs to the user alone, like the programs of a shell's path.
"""

import hashlib
import os
import pathlib
import platform
import re
import zlib
from collections.abc import Mapping

LARGEST = 2**31  # bytes of all programs; the oldest are removed
_CHECKED = "checked"  # a file whose time is that of the last look at the programs
_ZLIB = b"\x78"  # how jax's files begin, unless zstandard is installed


def folder(environment: Mapping[str, str]) -> pathlib.Path | None:
    """Open this machine's folder below the user's cache folder, damaged and old programs removed.

    None if there can be none: it can't be written, or others may write to it.
    """
    home = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = pathlib.Path(home, "alexnet_jax", "compiled", f"{machine()}-{threads(environment)}")
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = place.stat()
        if about.st_uid != os.getuid() or about.st_mode & 0o022 or not os.access(place, os.W_OK):
            return None
        clean(place, LARGEST)
    except OSError:
        return None
    return place


def machine() -> str:
    """A name for what programs are compiled for: the instructions of this processor.

    A home folder may be shared by machines whose processors know different ones.
    """
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    known = re.search(r"^(?:flags|Features)\s*:.*$", text, re.MULTILINE)
    words = known[0] if known else platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"


def threads(environment: Mapping[str, str]) -> int:
    """Threads that XLA compiles for on a CPU: PJRT_NPROC, else the cores this process may use.

    A program holds into how many parts its loops are cut, and jax's key to it does not: what was
    compiled on one core would later leave the others idle, without a word.
    """
    named = environment.get("PJRT_NPROC", "")
    if named.isdecimal() and int(named):
        return int(named)
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def clean(place: pathlib.Path, largest: int) -> None:
    """Remove what a killed command left half-written, and the oldest files above `largest` bytes.

    JAX writes a program in place and never again, so a damaged one would be warned of forever.
    Files that were there when this was last done are not read again.
    """
    mark = place / _CHECKED
    before = mark.stat().st_mtime if mark.exists() else 0.0
    mark.touch()
    programs = []
    for file in place.glob("*-cache"):
        about = file.stat()
        if about.st_mtime >= before and _damaged(file):
            file.unlink(missing_ok=True)
        else:
            programs.append((about.st_mtime, about.st_size, file))
    total = 0
    for _, size, file in sorted(programs, reverse=True):
        total += size
        if total > largest:
            file.unlink(missing_ok=True)


def _damaged(file: pathlib.Path) -> bool:
    content = file.read_bytes()
    if content and not content.startswith(_ZLIB):
        return False
    try:
        return not zlib.decompress(content)
    except zlib.error:
        return True
